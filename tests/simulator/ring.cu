// out[token][feature] = W x^T for a plain 2:4 weight: a three-stage cp.async ring, ldmatrix, mma.sp m16n8k32,
// and an epilogue staged through shared memory. The tests compile it for six targets and break it on purpose.
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

constexpr int kTileM = 64, kTileN = 64, kTileK = 64, kStages = 3, kThreads = 128;
constexpr int kBytesA = kTileM * kTileK;      // half of the columns, two bytes each
constexpr int kBytesB = kTileN * kTileK * 2;
constexpr int kStage = kBytesA + kBytesB;
constexpr int kPitch = kTileM * 2;            // staged output row, one token

__device__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// 64-byte rows of A: two rows share 128 bytes, so the 16-byte column moves with row / 2.
__device__ int place_a(int row, int column) { return row * 64 + ((column ^ (row >> 1 & 3)) << 4); }
// 128-byte rows of B.
__device__ int place_b(int row, int column) { return row * 128 + ((column ^ (row & 7)) << 4); }

__device__ void copy16(u32 destination, const void* source, bool valid) {
  int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n"
               ::"r"(destination), "l"(source), "r"(bytes) : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kPending>
__device__ void wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory"); }

__device__ void load_matrices(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
template <int kSelector>
__device__ void multiply(float (&d)[4], const u32 (&a)[4], const u32* b, u32 metadata) {
  asm volatile("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32." TYPE "." TYPE ".f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]),
                 "r"(b[3]), "r"(metadata), "n"(kSelector));
}
__device__ u16 narrow(float value) {
  u16 bits;
  asm("cvt.rn." TYPE ".f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

extern "C" __global__ void __launch_bounds__(kThreads)
ring(const char* __restrict__ weight, const u32* __restrict__ metadata, const char* __restrict__ tokens,
     u16* __restrict__ out, int m, int n, int k) {
  extern __shared__ __align__(128) char shared[];
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int m0 = blockIdx.x * kTileM, n0 = blockIdx.y * kTileN;
  const int warp_m = (warp & 1) * 32, warp_n = (warp >> 1) * 32;
  const int steps = (k + kTileK - 1) / kTileK;
  const u32 base = shared_address(shared);

  auto load_stage = [&](int step) {
    const u32 stage = base + step % kStages * kStage;
    for (int i = thread; i < kTileM * 4; i += kThreads) {
      const int row = i >> 2, column = i & 3;
      const bool valid = m0 + row < m;
      const char* source = weight + ((u64)(valid ? m0 + row : 0) * steps + step) * 64 + column * 16;
      copy16(stage + place_a(row, column), source, valid);
    }
    for (int i = thread; i < kTileN * 8; i += kThreads) {
      const int row = i >> 3, column = i & 7;
      const bool valid = n0 + row < n && step * kTileK + column * 8 < k;
      const char* source = tokens + (valid ? ((u64)(n0 + row) * k + step * kTileK + column * 8) * 2 : 0);
      copy16(stage + kBytesA + place_b(row, column), source, valid);
    }
  };

  float sum[2][4][4] = {};
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) load_stage(step);
    commit();
  }
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait<kStages - 2>();
    __syncthreads();
    if (step + kStages - 1 < steps) load_stage(step + kStages - 1);
    commit();
    const u32 stage = base + step % kStages * kStage;
    u32 codes[2];
    for (int i = 0; i < 2; ++i) {
      const int fragment = (m0 + warp_m) / 16 + i;
      codes[i] = metadata[(fragment * steps + step) * 32 + lane];
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      u32 a[2][4], b[4][4];
      for (int i = 0; i < 2; ++i)
        load_matrices(a[i], stage + place_a(warp_m + i * 16 + (lane & 15), half * 2 + (lane >> 4)));
      for (int j = 0; j < 4; ++j)
        load_matrices(b[j], stage + kBytesA + place_b(warp_n + j * 8 + (lane & 7), half * 4 + (lane >> 3)));
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
          if (half == 0) multiply<0>(sum[i][j], a[i], b[j], codes[i]);
          else multiply<1>(sum[i][j], a[i], b[j], codes[i]);
        }
    }
  }

  wait<0>();
  __syncthreads();
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int e = 0; e < 4; ++e) {
        const int feature = warp_m + i * 16 + (lane >> 2) + (e >> 1) * 8;
        const int token = warp_n + j * 8 + (lane & 3) * 2 + (e & 1);
        *(u16*)(shared + token * kPitch + (feature * 2 ^ (token & 7) << 4)) = narrow(sum[i][j][e]);
      }
  __syncthreads();
  for (int i = thread; i < kTileN * kPitch / 16; i += kThreads) {
    const int token = i / (kPitch / 16), column = i % (kPitch / 16);
    const uint4 row = *(const uint4*)(shared + token * kPitch + (column * 16 ^ (token & 7) << 4));
    if (n0 + token < n && m0 + column * 8 < m)
      *(uint4*)((char*)out + ((u64)(n0 + token) * m + m0 + column * 8) * 2) = row;
  }
}
