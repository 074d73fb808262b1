// ssmm_sm90_1_2_64_bf16:
// out[i, :] = tokens[i, :] times the transposed sparse weight.
//
// Generated from schedules/ssmm_sm90.py and templates/warp_specialised.cu.jinja.
// Do not edit: run `samoyeds-gen emit`.
// Schedule ae15335a6369, written for sm_90a.

// Format: N of every M sub-rows of V columns are kept, 2:4 sparse inside.
constexpr int kFormatN = 1;  // kept sub-rows a block
constexpr int kFormatM = 2;  // output rows a block
constexpr int kFormatV = 64;  // dense columns a block
// Tile and warpgroups.
constexpr int kTileM = 256;  // rows of the decoded weight a CTA
constexpr int kTileN = 200;  // tokens a CTA
constexpr int kTileK = 128;  // dense columns a stage
constexpr int kWeightRows = 128;  // stored rows of a stage
constexpr int kStages = 3;  // depth of the ring
constexpr int kConsumers = 2;  // warpgroups that multiply; one more copies
constexpr int kThreads = 384;  // 128 x (kConsumers + 1)
constexpr int kGroupRows = 64;  // rows of the matrix unit a warpgroup
constexpr int kFeaturesPerRow = 2;  // output features of one such row
constexpr int kWarpFeatures = 32;  // of these a warp
constexpr int kWarpOutputs = 32;  // output features a warp
constexpr int kRowGroups = 2;  // groups of 8 rows of a warp that become output
constexpr int kTileOutputs = 256;  // output features a CTA
constexpr int kRasterGroup = 16;  // tile rows walked together
constexpr int kConsumerRegisters = 240;  // a thread
constexpr int kProducerRegisters = 24;  // a thread
// Accumulators.
constexpr int kSets = 2;  // accumulator sets
constexpr int kParts = 1;  // parts of the tokens
constexpr int kSums = 100;  // accumulators a thread, set and part
constexpr int kPartTokens = 200;  // tokens of a part
// Shared memory, in bytes.
constexpr int kWeightRing = 0;  // first byte of the weight ring
constexpr int kWeightStage = 16384;  // bytes a stage
constexpr int kWeightRowBytes = 128;  // bytes a stored row
constexpr int kWeightSwizzle = 1;  // swizzling mode of its descriptors
constexpr int kTokenSwizzle = 1;  // swizzling mode of the tokens' descriptors
constexpr int kTokenRing = 49152;  // first byte of the token ring
constexpr int kTokenStage = 51200;  // bytes a stage
constexpr int kBoxColumns = 64;  // token columns of one box
constexpr int kBoxBytes = 25600;  // bytes of one box of tokens
constexpr int kWordRing = 202752;  // first byte of the words' ring
constexpr int kWordBytes = 1088;  // bytes a stage and warpgroup
constexpr int kMetadataBytes = 1024;  // of which metadata
constexpr int kFull = 214400;  // first barrier of full stages
constexpr int kEmpty = 214528;  // first barrier of empty stages
constexpr int kPlaces = 214432;  // first byte of the places of stages' tiles
constexpr int kSlices = 209280;  // first byte of the output slices
constexpr int kSliceCount = 8;  // slices of a CTA, one a warp
constexpr int kSliceTokens = 8;  // tokens a slice
constexpr int kTokenChunks = 4;  // 16-byte chunks of a warp's features and a token
constexpr int kStoreTokens = 8;  // tokens that a warp stores at once
constexpr int kSliceStride = 80;  // bytes a token: 16 more keep banks apart
constexpr int kSliceBytes = 640;  // bytes a slice
constexpr int kChunkElements = 8;  // outputs in 16 bytes
constexpr int kSharedBytes = 214552;  // dynamic shared memory
static_assert(kThreads == 128 * (kConsumers + 1), "one warpgroup copies, the others multiply");
static_assert(kWarpFeatures == kGroupRows / 4 * kFeaturesPerRow, "a warp owns 16 rows of 64");
static_assert(kTileM == kConsumers * 4 * kWarpFeatures,
              "warpgroups cover the features of the tile");
static_assert(kTileN == kParts * kPartTokens, "parts cover the tokens of the tile");
static_assert(kSums == kPartTokens / 2, "64 rows of a part lie in 128 threads");
static_assert(kPartTokens % 8 == 0 && kSliceTokens % 8 == 0, "slices are groups of 8 tokens");
static_assert(kWeightStage == kWeightRows * kWeightRowBytes, "a stage is one box of weight");
static_assert(kWeightStage % (8 * kWeightRowBytes) == 0, "stages keep the phase of the swizzle");
static_assert(kTokenStage == kTileK / kBoxColumns * kBoxBytes, "boxes cover a stage of tokens");
static_assert(kTokenRing + kStages * kTokenStage <= kSharedBytes, "the ring fits");
static_assert(kSlices + kSliceCount * kSliceBytes <= kSharedBytes, "the output slices fit");
static_assert(kWordBytes % 16 == 0, "bulk copies move whole chunks of 16 bytes");
static_assert(128 * (kConsumers * kConsumerRegisters + kProducerRegisters) <= 65536,
              "the warpgroups share the registers of an SM");

typedef unsigned short Element;  // the bits of one bfloat16
typedef unsigned short Output;  // bfloat16
// A CUtensorMap, made by the launcher.
struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

// A barrier whose phase ends after `count` arrivals and all announced bytes.
__device__ __forceinline__ void mbarrier_init(unsigned barrier, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// Arrive, and announce `bytes` that asynchronous copies will bring in this phase.
__device__ __forceinline__ void mbarrier_expect(unsigned barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Wait until the phase of this parity has ended.
__device__ __forceinline__ void mbarrier_wait(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "AGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra AGAIN;\n"
      "}" ::"r"(barrier), "r"(parity)
      : "memory");
}

// Copy the box at (column, row) to shared memory; what lies outside the tensor is zero.
__device__ __forceinline__ void tma_box(unsigned to, const TensorMap* map, unsigned barrier,
                                        int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

// Copy `bytes` from global to shared memory.
__device__ __forceinline__ void bulk_load(unsigned to, const void* from, unsigned bytes,
                                          unsigned barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// Hand registers over: the producer needs few, the consumers many.
__device__ __forceinline__ void registers_for_consumer() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kConsumerRegisters));
}
__device__ __forceinline__ void registers_for_producer() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kProducerRegisters));
}

// Arrive.
__device__ __forceinline__ void mbarrier_arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Wait at named barrier `number` until `threads` threads have come.
__device__ __forceinline__ void warpgroup_sync(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Come to named barrier `number` of `threads` threads without waiting there.
__device__ __forceinline__ void warpgroup_arrive(int number, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Matrix descriptor of K-major rows of `row_bytes` at `address` under a swizzling mode.
__device__ __forceinline__ unsigned long long descriptor(unsigned address, unsigned row_bytes,
                                                         unsigned long long mode) {
  const unsigned long long eight_rows = 8 * row_bytes / 16;  // stride, in 16-byte chunks
  return mode << 62 | eight_rows << 32 | 1ull << 16 | (address & 0x3FFFF) >> 4;
}

// Order register and shared-memory accesses before the matrix work that follows.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Keep the compiler from moving accumulators across.
__device__ __forceinline__ void pin(float (&acc)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(acc[i])::"memory");
}

// Close the group of matrix work issued since the last one.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Wait until at most 0 groups of matrix work are in flight.
__device__ __forceinline__ void wgmma_wait_0() {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// acc += A B of one step, or acc = A B without `add`. A is 2:4 sparse, both lie in shared memory; lane
// pair 0 of each quad holds the metadata.
__device__ __forceinline__ void wgmma_sp_shared_0(float (&acc)[kSums], unsigned long long a,
                                                  unsigned long long b, unsigned metadata,
                                                  int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %103, 0;\n"
      "wgmma.mma_async.sp.sync.aligned.m64n200k32.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, "
      "%8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, "
      "%40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, "
      "%56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, "
      "%72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, "
      "%88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99 "
      "}, %100, %101, %102, 0, add, 1, 1, 0, 0;\n"
      "}"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3]),
        "+f"(acc[4]), "+f"(acc[5]), "+f"(acc[6]), "+f"(acc[7]),
        "+f"(acc[8]), "+f"(acc[9]), "+f"(acc[10]), "+f"(acc[11]),
        "+f"(acc[12]), "+f"(acc[13]), "+f"(acc[14]), "+f"(acc[15]),
        "+f"(acc[16]), "+f"(acc[17]), "+f"(acc[18]), "+f"(acc[19]),
        "+f"(acc[20]), "+f"(acc[21]), "+f"(acc[22]), "+f"(acc[23]),
        "+f"(acc[24]), "+f"(acc[25]), "+f"(acc[26]), "+f"(acc[27]),
        "+f"(acc[28]), "+f"(acc[29]), "+f"(acc[30]), "+f"(acc[31]),
        "+f"(acc[32]), "+f"(acc[33]), "+f"(acc[34]), "+f"(acc[35]),
        "+f"(acc[36]), "+f"(acc[37]), "+f"(acc[38]), "+f"(acc[39]),
        "+f"(acc[40]), "+f"(acc[41]), "+f"(acc[42]), "+f"(acc[43]),
        "+f"(acc[44]), "+f"(acc[45]), "+f"(acc[46]), "+f"(acc[47]),
        "+f"(acc[48]), "+f"(acc[49]), "+f"(acc[50]), "+f"(acc[51]),
        "+f"(acc[52]), "+f"(acc[53]), "+f"(acc[54]), "+f"(acc[55]),
        "+f"(acc[56]), "+f"(acc[57]), "+f"(acc[58]), "+f"(acc[59]),
        "+f"(acc[60]), "+f"(acc[61]), "+f"(acc[62]), "+f"(acc[63]),
        "+f"(acc[64]), "+f"(acc[65]), "+f"(acc[66]), "+f"(acc[67]),
        "+f"(acc[68]), "+f"(acc[69]), "+f"(acc[70]), "+f"(acc[71]),
        "+f"(acc[72]), "+f"(acc[73]), "+f"(acc[74]), "+f"(acc[75]),
        "+f"(acc[76]), "+f"(acc[77]), "+f"(acc[78]), "+f"(acc[79]),
        "+f"(acc[80]), "+f"(acc[81]), "+f"(acc[82]), "+f"(acc[83]),
        "+f"(acc[84]), "+f"(acc[85]), "+f"(acc[86]), "+f"(acc[87]),
        "+f"(acc[88]), "+f"(acc[89]), "+f"(acc[90]), "+f"(acc[91]),
        "+f"(acc[92]), "+f"(acc[93]), "+f"(acc[94]), "+f"(acc[95]),
        "+f"(acc[96]), "+f"(acc[97]), "+f"(acc[98]), "+f"(acc[99])
      : "l"(a), "l"(b), "r"(metadata), "r"(add));
}

// acc += A B of one step, or acc = A B without `add`. A is 2:4 sparse, both lie in shared memory; lane
// pair 1 of each quad holds the metadata.
__device__ __forceinline__ void wgmma_sp_shared_1(float (&acc)[kSums], unsigned long long a,
                                                  unsigned long long b, unsigned metadata,
                                                  int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %103, 0;\n"
      "wgmma.mma_async.sp.sync.aligned.m64n200k32.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, "
      "%8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, "
      "%40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, "
      "%56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, "
      "%72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, "
      "%88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99 "
      "}, %100, %101, %102, 1, add, 1, 1, 0, 0;\n"
      "}"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3]),
        "+f"(acc[4]), "+f"(acc[5]), "+f"(acc[6]), "+f"(acc[7]),
        "+f"(acc[8]), "+f"(acc[9]), "+f"(acc[10]), "+f"(acc[11]),
        "+f"(acc[12]), "+f"(acc[13]), "+f"(acc[14]), "+f"(acc[15]),
        "+f"(acc[16]), "+f"(acc[17]), "+f"(acc[18]), "+f"(acc[19]),
        "+f"(acc[20]), "+f"(acc[21]), "+f"(acc[22]), "+f"(acc[23]),
        "+f"(acc[24]), "+f"(acc[25]), "+f"(acc[26]), "+f"(acc[27]),
        "+f"(acc[28]), "+f"(acc[29]), "+f"(acc[30]), "+f"(acc[31]),
        "+f"(acc[32]), "+f"(acc[33]), "+f"(acc[34]), "+f"(acc[35]),
        "+f"(acc[36]), "+f"(acc[37]), "+f"(acc[38]), "+f"(acc[39]),
        "+f"(acc[40]), "+f"(acc[41]), "+f"(acc[42]), "+f"(acc[43]),
        "+f"(acc[44]), "+f"(acc[45]), "+f"(acc[46]), "+f"(acc[47]),
        "+f"(acc[48]), "+f"(acc[49]), "+f"(acc[50]), "+f"(acc[51]),
        "+f"(acc[52]), "+f"(acc[53]), "+f"(acc[54]), "+f"(acc[55]),
        "+f"(acc[56]), "+f"(acc[57]), "+f"(acc[58]), "+f"(acc[59]),
        "+f"(acc[60]), "+f"(acc[61]), "+f"(acc[62]), "+f"(acc[63]),
        "+f"(acc[64]), "+f"(acc[65]), "+f"(acc[66]), "+f"(acc[67]),
        "+f"(acc[68]), "+f"(acc[69]), "+f"(acc[70]), "+f"(acc[71]),
        "+f"(acc[72]), "+f"(acc[73]), "+f"(acc[74]), "+f"(acc[75]),
        "+f"(acc[76]), "+f"(acc[77]), "+f"(acc[78]), "+f"(acc[79]),
        "+f"(acc[80]), "+f"(acc[81]), "+f"(acc[82]), "+f"(acc[83]),
        "+f"(acc[84]), "+f"(acc[85]), "+f"(acc[86]), "+f"(acc[87]),
        "+f"(acc[88]), "+f"(acc[89]), "+f"(acc[90]), "+f"(acc[91]),
        "+f"(acc[92]), "+f"(acc[93]), "+f"(acc[94]), "+f"(acc[95]),
        "+f"(acc[96]), "+f"(acc[97]), "+f"(acc[98]), "+f"(acc[99])
      : "l"(a), "l"(b), "r"(metadata), "r"(add));
}

// Round two neighbouring features to nearest even and stage them as one word.
__device__ __forceinline__ void stage_pair(unsigned char* to, float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  *reinterpret_cast<unsigned*>(to) = bits;
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    ssmm_sm90_1_2_64_bf16(
        const __grid_constant__ TensorMap weight_map,  // [stored rows, stored k / 2]
        const unsigned char* __restrict__ words,  // metadata and fold words by stage
        const __grid_constant__ TensorMap token_map,  // [n, k]
        Output* __restrict__ out,  // [n, m]
        long long out_stride,  // elements
        int m,  // output features
        int n,  // output tokens
        int k  // input features
    ) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const unsigned shared_base = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int warpgroup = threadIdx.x / 128;
  const int thread = threadIdx.x % 128;

  // Tiles: groups of kRasterGroup tile rows are walked column by column, so that CTAs that run
  // together share weight and token tiles in L2. A CTA takes every gridDim.x-th tile.
  const int first_tile = blockIdx.x;
  const int tile_step = gridDim.x;
  const int tiles_m = (m + kTileM - 1) / kTileM;
  const int tiles_n = (n + kTileN - 1) / kTileN;
  const int tiles = tiles_m * tiles_n;
  const int stored_k = (k + kFormatV - 1) / kFormatV * kFormatV;
  const int tiles_k = (stored_k + kTileK - 1) / kTileK;
  // The last tile of tokens ends with the last one, and begins with some of the tile before: TMA is
  // slow to fill rows behind the last token with zeros.
  int tile_m, first_token;
  const auto place = [&](int tile) {
    const int group = tile / (kRasterGroup * tiles_n);
    const int in_group = tile % (kRasterGroup * tiles_n);
    const int group_rows = min(tiles_m - group * kRasterGroup, kRasterGroup);
    tile_m = group * kRasterGroup + in_group % group_rows;
    first_token = max(0, min(in_group / group_rows * kTileN, n - kTileN));
  };
  // The ring: the producer fills a stage when it is empty, the consumers read it when it is full.
  int stage = 0;
  unsigned phase = 0;  // parity of the ring's present round
  const auto full = [&] { return shared_base + kFull + 8 * stage; };
  const auto empty = [&] { return shared_base + kEmpty + 8 * stage; };
  const auto next_stage = [&] {
    ++stage;
    if (stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  };
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(shared_base + kFull + 8 * i, 1);
      mbarrier_init(shared_base + kEmpty + 8 * i, kConsumers);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (warpgroup == kConsumers) {
    // Producer.
    registers_for_producer();
    if (thread == 0) {
#pragma unroll 1
      for (int tile = first_tile; tile < tiles; tile += tile_step) {
        place(tile);
        const int first_stored_row = tile_m * kTileM / kFormatM * kFormatN;
#pragma unroll 1
        for (int tile_k = 0; tile_k < tiles_k; ++tile_k) {
          mbarrier_wait(empty(), phase ^ 1);

          reinterpret_cast<int2*>(shared + kPlaces)[stage] = make_int2(tile_m, first_token);

          mbarrier_expect(full(), kWeightStage + kConsumers * kWordBytes + kTokenStage);

          tma_box(shared_base + kWeightRing + stage * kWeightStage, &weight_map, full(),
                  tile_k * (kTileK / 2), first_stored_row);

#pragma unroll
          for (int g = 0; g < kConsumers; ++g) {
            const int block_row = tile_m * kConsumers + g;
            const long long block = static_cast<long long>(block_row) * tiles_k + tile_k;
            bulk_load(shared_base + kWordRing + (stage * kConsumers + g) * kWordBytes,
                      words + block * kWordBytes, kWordBytes, full());
          }

#pragma unroll
          for (int box = 0; box < kTileK / kBoxColumns; ++box) {
            tma_box(shared_base + kTokenRing + stage * kTokenStage + box * kBoxBytes, &token_map, full(),
                    tile_k * kTileK + box * kBoxColumns, first_token);
          }

          next_stage();
        }
      }
    }

    return;
  }

  // Consumers.
  registers_for_consumer();
  const int warp = thread / 32;
  const int lane = thread % 32;
  // Turns at the matrix unit: barrier 1 + g is warpgroup g's; the first one starts.
  const int my_turn = 1 + warpgroup;
  const int next_turn = 1 + (warpgroup + 1) % kConsumers;
  if (warpgroup == kConsumers - 1) warpgroup_arrive(next_turn, 256);
#pragma unroll 1
  for (int tile = first_tile; tile < tiles; tile += tile_step) {
    float acc[kSets][kParts][kSums];  // running sum, then the first 1 rows of each block
#pragma unroll 1
    for (int tile_k = 0; tile_k < tiles_k; ++tile_k) {
      mbarrier_wait(full(), phase);

      if (tile_k == 0) {
        const int2 place = reinterpret_cast<const int2*>(shared + kPlaces)[stage];
        tile_m = place.x;
        first_token = place.y;
      }

      const unsigned char* const stage_words =
          shared + kWordRing + (stage * kConsumers + warpgroup) * kWordBytes;
      unsigned metadata[kTileK / 64];
#pragma unroll
      for (int i = 0; i < kTileK / 64; ++i) {
        metadata[i] = reinterpret_cast<const unsigned*>(stage_words)[thread * (kTileK / 64) + i];
      }
      // Selector bits of this thread's two rows: of the tile's V-blocks and of the one behind them.
      unsigned selectors[kSets - 1][2];
#pragma unroll
      for (int p = 0; p < kSets - 1; ++p) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = warp * 16 + half * 8 + lane / 4;
          selectors[p][half] = stage_words[kMetadataBytes + p * kGroupRows + row];
        }
      }
      const unsigned weight_at = shared_base + kWeightRing + stage * kWeightStage;
      const unsigned long long token_matrix =
          descriptor(shared_base + kTokenRing + stage * kTokenStage, 128, kTokenSwizzle);
      const unsigned group_at = weight_at + warpgroup * kGroupRows * kWeightRowBytes;
      const unsigned long long weight_matrix = descriptor(group_at, kWeightRowBytes, kWeightSwizzle);

      warpgroup_sync(my_turn, 256);

      // Part 0, V-block 0 of the tile.
      pin(acc[0][0]);
      wgmma_fence();
      wgmma_sp_shared_0(acc[0][0], weight_matrix + 0,
          token_matrix + (0 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 0,
          metadata[0], tile_k > 0);
      wgmma_sp_shared_1(acc[0][0], weight_matrix + 2,
          token_matrix + (0 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 4,
          metadata[0], 1);
      wgmma_commit();

      warpgroup_arrive(next_turn, 256);

      wgmma_wait_0();
      pin(acc[0][0]);

      // Prefix sums: with s_j the selector bit of V-block j and P_j the running sum after it, a row
      // is the sum of (s_j - s_{j+1}) P_j, so the running sum is never reset.
      {
#pragma unroll
        for (int p = 0; p < kSets - 1; ++p) {
          float factor[2];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int leaves = selectors[p][half] >> 0 & 1;
            const int enters = selectors[p][half] >> 0 >> 1 & 1;
            factor[half] = static_cast<float>(leaves - enters);
          }
          if (tile_k == 0) {  // of the tile
#pragma unroll
            for (int i = 0; i < kSums; ++i) {
              acc[p + 1][0][i] = __fmaf_rn(factor[i / 2 % 2], acc[0][0][i], 0.0f);
            }
          } else {
#pragma unroll
            for (int i = 0; i < kSums; ++i) {
              acc[p + 1][0][i] = __fmaf_rn(factor[i / 2 % 2], acc[0][0][i], acc[p + 1][0][i]);
            }
          }
        }
      }

      warpgroup_sync(my_turn, 256);

      // Part 0, V-block 1 of the tile.
      pin(acc[0][0]);
      wgmma_fence();
      wgmma_sp_shared_0(acc[0][0], weight_matrix + 4,
          token_matrix + (1 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 0,
          metadata[1], 1);
      wgmma_sp_shared_1(acc[0][0], weight_matrix + 6,
          token_matrix + (1 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 4,
          metadata[1], 1);
      wgmma_commit();

      warpgroup_arrive(next_turn, 256);

      wgmma_wait_0();
      pin(acc[0][0]);

      if (thread == 0) mbarrier_arrive(empty());

      // Prefix sums: with s_j the selector bit of V-block j and P_j the running sum after it, a row
      // is the sum of (s_j - s_{j+1}) P_j, so the running sum is never reset.
      {
#pragma unroll
        for (int p = 0; p < kSets - 1; ++p) {
          float factor[2];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int leaves = selectors[p][half] >> 1 & 1;
            const int enters = selectors[p][half] >> 1 >> 1 & 1;
            factor[half] = static_cast<float>(leaves - enters);
          }
#pragma unroll
          for (int i = 0; i < kSums; ++i) {
            acc[p + 1][0][i] = __fmaf_rn(factor[i / 2 % 2], acc[0][0][i], acc[p + 1][0][i]);
          }
        }
      }

      next_stage();
    }

    // Epilogue of the tile; the producer fills the ring for the next one meanwhile.
    const int slice_warp = warpgroup * 4 + warp;
    const int first_feature = tile_m * kTileOutputs + slice_warp * kWarpOutputs;
    unsigned char* const slice = shared + kSlices + slice_warp * kSliceBytes;

    // A lane stores the same 16 bytes of every kStoreTokens-th token.
    const int lane_token = lane / kTokenChunks;
    const int lane_feature = first_feature + lane % kTokenChunks * kChunkElements;
    const unsigned char* const lane_chunk =
        slice + lane_token * kSliceStride + lane % kTokenChunks * 16;
    Output* lane_out = out + (first_token + lane_token) * out_stride + lane_feature;
    const int tokens_left = min(n, kTileN) - lane_token;
    // The last tile begins with tokens that the one before stores.
    const int tokens_done = (kTileN - first_token % kTileN) % kTileN - lane_token;
    const int lane_features = min(m - lane_feature, kChunkElements);
    const bool whole_chunk = out_stride % kChunkElements == 0 && lane_features == kChunkElements;

#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int in_part = 0; in_part < kPartTokens; in_part += kSliceTokens) {
        const int first = part * kPartTokens + in_part;
#pragma unroll
        for (int group = 0; group < kSliceTokens / 8; ++group) {
          const int eight = in_part + group * 8;
          if (eight >= kPartTokens) break;  // the last slice of a part may be shorter

#pragma unroll
          for (int odd = 0; odd < 2; ++odd) {
            const int token = group * 8 + lane % 4 * 2 + odd;  // of the slice

#pragma unroll
            for (int rows = 0; rows < kRowGroups; ++rows) {
              const int i = eight / 2 + rows * 2 + odd;
              // The last row of a block is what the others leave of the running sum.
              float value[kFeaturesPerRow];
              value[kFeaturesPerRow - 1] = acc[0][part][i];
#pragma unroll
              for (int p = 0; p < kFeaturesPerRow - 1; ++p) {
                value[p] = acc[p + 1][part][i];
                value[kFeaturesPerRow - 1] -= value[p];
              }

              float result[kFeaturesPerRow];
#pragma unroll
              for (int j = 0; j < kFeaturesPerRow; ++j) {
                result[j] = value[j];
              }
              unsigned char* const to = slice + token * kSliceStride +
                                        (rows * 8 + lane / 4) * kFeaturesPerRow * sizeof(Output);
#pragma unroll
              for (int j = 0; j < kFeaturesPerRow; j += 2) {
                stage_pair(to + j * sizeof(Output), result[j], result[j + 1]);
              }
            }
          }
        }

        const int slice_tokens = min(kPartTokens - in_part, kSliceTokens);
        const int slice_left = min(tokens_left - first, slice_tokens - lane_token);
        const int slice_done = tokens_done - first;
        // The slice is whole.
        __syncwarp();
        if (whole_chunk) {
#pragma unroll
          for (int t = 0; t < slice_tokens; t += kStoreTokens) {
            if (t >= slice_done && t < slice_left) {
              const unsigned char* const chunk = lane_chunk + t * kSliceStride;
              *reinterpret_cast<uint4*>(lane_out + t * out_stride) =
                  *reinterpret_cast<const uint4*>(chunk);
            }
          }
        } else if (lane_features > 0) {  // the last ones, or rows that do not begin at multiples of 16 bytes
          Output* to = lane_out;
#pragma unroll 1
          for (int t = 0; t < slice_left; t += kStoreTokens) {
            const unsigned char* const chunk = lane_chunk + t * kSliceStride;
            const Output* const from = reinterpret_cast<const Output*>(chunk);
#pragma unroll 1
            for (int e = 0; t >= slice_done && e < lane_features; ++e) to[e] = from[e];
            to += kStoreTokens * out_stride;
          }
        }
        lane_out += slice_tokens * out_stride;
        // Every lane has read the slice.
        __syncwarp();
      }
    }
  }
  // The last turn that was passed on is taken, so that no barrier is left half full.
  if (warpgroup == 0) warpgroup_sync(my_turn, 256);
}
