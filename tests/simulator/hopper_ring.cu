// out[token][feature] = W x^T for a (1,2,V) weight: TMA producer, three-stage mbarrier ring, two consumer
// warpgroups on wgmma.sp with prefix accumulation, stores through a small slice of shared memory.
// The tests put in TYPE and VECTOR, and break it on purpose.
constexpr int kVector = VECTOR, kStages = 3, kRows = 128, kTokens = 64, kStep = 128;
constexpr int kBytesA = kRows * kStep, kBytesB = kTokens * kStep * 2, kBytesM = kRows * 16;
constexpr int kStage = kBytesA + kBytesB + kBytesM;
constexpr int kSlice = 32 * 256;  // 32 tokens, 128 features, one per warpgroup
constexpr int kAccumulators = kTokens / 2;

__device__ __forceinline__ u32 pack(float low, float high) {
  u32 r;
  asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

extern "C" __global__ void __launch_bounds__(384, 1)
ring(const __grid_constant__ TensorMap weight, const __grid_constant__ TensorMap tokens,
     const __grid_constant__ TensorMap out, const u32* __restrict__ metadata,
     const u32* __restrict__ selectors, int rows, int n, int k) {
  __shared__ u64 full[kStages], empty[kStages];
  const int thread = threadIdx.x, group = thread / 128;
  unsigned char* slices = shared + kStages * kStage;
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(&full[i], 1);
      barrier_init(&empty[i], 2);
    }
    barrier_fence();
  }
  __syncthreads();
  const int steps = (k + kStep - 1) / kStep, tall = (rows + kRows - 1) / kRows;
  const int tiles = tall * ((n + kTokens - 1) / kTokens);

  if (group == 2) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread == 256) {
      int stage = 0;
      u32 parity = 1;
      for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x)
        for (int step = 0; step < steps; ++step) {
          unsigned char* at = shared + stage * kStage;
          barrier_wait(&empty[stage], parity);
          barrier_expect(&full[stage], kStage);
          tensor_load(at, &weight, &full[stage], step * 64, tile % tall * kRows);
          tensor_load(at + kBytesA, &tokens, &full[stage], step * kStep, tile / tall * kTokens);
          tensor_load(at + kBytesA + kBytesB / 2, &tokens, &full[stage], step * kStep + 64, tile / tall * kTokens);
          bulk_load(at + kBytesA + kBytesB, metadata + (tile % tall * steps + step) * (kBytesM / 4), kBytesM,
                    &full[stage]);
          if (++stage == kStages) { stage = 0; parity ^= 1; }
        }
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    const int t = thread % 128, lane = t % 32, row = t / 32 * 16 + lane / 4;
    unsigned char* slice = slices + group * kSlice;
    int stage = 0;
    u32 parity = 0;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const int m0 = tile % tall * kRows + group * 64, n0 = tile / tall * kTokens;
      float d[kAccumulators], y[kAccumulators];
      for (int i = 0; i < kAccumulators; ++i) { d[i] = 0; y[i] = 0; }
      int block = 0;
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        unsigned char* at = shared + stage * kStage;
        barrier_wait(&full[stage], parity);
        const uint2 codes = *(const uint2*)(at + kBytesA + kBytesB + group * 1024 + t * 8);
        const u64 a = descriptor(at + group * 8192), b = descriptor(at + kBytesA);
#pragma unroll
        for (int first = 0; first < kStep / 32; first += kVector / 32) {
          pin(d);
          matrix_fence();
#pragma unroll
          for (int i = first; i < first + kVector / 32; ++i) {
            const u64 half = (u64)(i / 2) * (kBytesB / 2 >> 4) + (i % 2) * 4;
            const u32 code = i / 2 ? codes.y : codes.x;
            if (i % 2) multiply1(d, a + i * 2, b + half, code); else multiply0(d, a + i * 2, b + half, code);
          }
          matrix_commit();
          // Selector bits of rows `row` and `row` + 8: of this block and of the next one.
          const u32* words = selectors + (block >> 5) * (tall * kRows) + m0 + row;
          const u32* after = selectors + (block + 1 >> 5) * (tall * kRows) + m0 + row;
          const float w0 = (float)(words[0] >> (block & 31) & 1) - (float)(after[0] >> (block + 1 & 31) & 1);
          const float w1 = (float)(words[8] >> (block & 31) & 1) - (float)(after[8] >> (block + 1 & 31) & 1);
          matrix_wait<0>();
          pin(d);
          for (int i = 0; i < kAccumulators; ++i) y[i] = fmaf(i & 2 ? w1 : w0, d[i], y[i]);
          ++block;
        }
        if (t == 0) barrier_arrive(&empty[stage]);
        if (++stage == kStages) { stage = 0; parity ^= 1; }
      }
      for (int half = 0; half < 2; ++half) {
        if (t == 0) bulk_wait_read<0>();
        group_barrier<128>(1 + group);
#pragma unroll
        for (int i = 0; i < kAccumulators / 2; ++i) {
          const int e = half * (kAccumulators / 2) + i;
          const int token = i / 4 * 8 + lane % 4 * 2 + (i & 1), r = row + (i & 2 ? 8 : 0);
          *(u32*)(slice + token * 256 + r * 4) = pack(y[e], d[e] - y[e]);
        }
        proxy_fence();
        group_barrier<128>(1 + group);
        if (t == 0) {
          tensor_store(&out, slice, m0 * 2, n0 + half * 32);
          bulk_commit();
        }
      }
    }
    if (t == 0) bulk_wait_read<0>();
  }
}
