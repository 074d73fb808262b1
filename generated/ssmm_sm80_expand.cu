// ssmm_sm80_expand_4_8_32_bf16:
// out[i, :] = tokens[i, :] times the transposed sparse weight.
//
// Generated from schedules/ssmm_sm80_expand.py and templates/cp_async_ring.cu.jinja.
// Do not edit: run `samoyeds-gen emit`.
// Schedule 36fdcdf14683, written for sm_80.

// Format: N of every M sub-rows of V columns are kept, 2:4 sparse inside.
constexpr int kFormatN = 4;  // kept sub-rows a block
constexpr int kFormatM = 8;  // output rows a block
constexpr int kFormatV = 32;  // dense columns a block
// Tile.
constexpr int kTileM = 256;  // output features a CTA
constexpr int kTileN = 56;  // tokens a CTA
constexpr int kTileK = 128;  // dense columns a stage
constexpr int kTileFragments = 16;  // fragments of 16 rows a CTA
constexpr int kWeightRows = 128;  // stored rows a tile touches
constexpr int kStages = 2;  // depth of the ring
constexpr int kWarpsM = 4;  // warps along the features
constexpr int kWarpsN = 1;  // warps along the tokens
constexpr int kThreads = 128;  // 32 x kWarpsM x kWarpsN
constexpr int kRasterGroup = 8;  // tile rows walked together
constexpr int kCtasPerSm = 2;  // resident CTAs the compiler makes room for
// Fragments of one warp.
constexpr int kSets = 1;  // accumulator sets
constexpr int kFragmentsM = 4;  // fragments of 16 rows
constexpr int kFragmentsN = 7;  // fragments of 8 tokens
constexpr int kFragmentBuffers = 2;  // buffers of weight fragments
constexpr int kFeaturesPerRow = 1;  // output features of one fragment row
constexpr int kWarpFeatures = 64;  // output features a warp
constexpr int kWarpTokens = 56;  // tokens a warp
constexpr int kStepK = 32;  // dense columns a matrix step
constexpr int kStepsPerWord = 2;  // steps one metadata word feeds
constexpr int kMetadataWords = 2;  // metadata words a lane, fragment and tile
// Steps and fold words.
constexpr int kSteps = 4;  // matrix steps a tile
constexpr int kTilesPerWord = 2;  // tiles one fold word covers
constexpr int kAbsent = 15;  // slot of a sub-row that is not kept
// Shared memory, in bytes.
constexpr int kWeightRing = 0;  // first byte of the weight ring
constexpr int kWeightStage = 16384;  // bytes a stage
constexpr int kWeightRowBytes = 128;  // bytes a stored row
constexpr int kWeightChunks = 1024;  // 16-byte chunks a stage
constexpr int kWeightCopies = 8;  // chunks a thread copies
constexpr int kWeightCopyRows = 16;  // rows between them
constexpr int kTokenRing = 32768;  // first byte of the token ring
constexpr int kTokenStage = 14336;  // bytes a stage
constexpr int kTokenRowBytes = 256;  // bytes a token
constexpr int kTokenChunks = 896;  // 16-byte chunks a stage
constexpr int kTokenCopies = 7;  // chunks a thread copies
constexpr int kTokenCopyRows = 8;  // rows between them
constexpr int kMetadataRing = 61440;  // first byte of the metadata ring
constexpr int kMetadataStage = 4096;  // bytes a stage
constexpr int kMetadataCopies = 2;  // chunks a thread
constexpr int kStaging = 0;  // first byte of the staging rows
constexpr int kStagingStride = 144;  // bytes a staged token: 16 more keep banks apart
constexpr int kChunkElements = 8;  // outputs in 16 bytes
constexpr int kStoreChunks = 64;  // 16-byte chunks a warp stores at a time
constexpr int kFoldRing = 69632;  // first byte of the fold words' ring
constexpr int kFoldStage = 2048;  // bytes a stage
constexpr int kFoldCopies = 1;  // chunks a thread copies
constexpr int kZeros = 73728;  // first byte of the zeros
constexpr int kSharedBytes = 73856;  // dynamic shared memory
static_assert(kThreads == 32 * kWarpsM * kWarpsN, "a warp owns one part of the tile");
static_assert(kTileM == kWarpsM * kWarpFeatures, "warps cover the features of the tile");
static_assert(kTileN == kWarpsN * kWarpTokens, "warps cover the tokens of the tile");
static_assert(kWarpFeatures == kFragmentsM * 16 * kFeaturesPerRow, "fragments cover the warp");
static_assert(kWeightChunks * 16 == kWeightRows * kWeightRowBytes, "chunks cover a stage");
static_assert(kTokenChunks * 16 == kTileN * kTokenRowBytes, "chunks cover a stage");
static_assert(kWeightCopies * kThreads >= kWeightChunks, "threads cover the weight chunks");
static_assert(kTokenCopies * kThreads >= kTokenChunks, "threads cover the token chunks");
static_assert(kStages * (kWeightStage + kTokenStage) <= kSharedBytes, "the ring fits");
static_assert(kStaging + kWarpsM * kWarpsN * 8 * kStagingStride <= kSharedBytes, "staging fits");
static_assert(kFormatV % 16 == 0, "a V-block is a whole number of 16-byte chunks");

typedef unsigned short Element;  // the bits of one bfloat16
typedef unsigned short Output;  // bfloat16
// threadIdx.x, read where it is asked for and not kept from earlier.
__device__ __forceinline__ int thread_index() {
  int index;
  asm volatile("mov.u32 %0, %tid.x;" : "=r"(index));
  return index;
}

// Copy 16 bytes from global to shared memory; only the first `bytes` are read, the rest is zero.
__device__ __forceinline__ void cp_async_16b(unsigned to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(bytes)
               : "memory");
}

// Close this thread's group of copies.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Wait until at most 0 of this thread's groups are in flight.
__device__ __forceinline__ void cp_async_wait_0() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

// Load four 8x8 tiles of 16-bit elements; lane l gives the address of row l % 8 of tile l / 8.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&to)[4], unsigned from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// acc += A B with A 2:4 sparse, 16x32 times 32x8; `selector` names the lane pair of each quad
// that holds the metadata of this step.
__device__ __forceinline__ void mma_sp_m16n8k32(float (&acc)[4], const unsigned (&a)[4],
                                                const unsigned (&b)[4], unsigned metadata,
                                                int selector) {
  if (selector == 0) {
    asm(
        "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x0;"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),
          "r"(metadata));
  } else {
    asm(
        "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x1;"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),
          "r"(metadata));
  }
}

// Layout xor_128b: 16-byte chunks are permuted so that 8 rows meet 8 bank groups.
__device__ __forceinline__ unsigned swizzle_weight(unsigned offset) {
  return offset ^ ((offset & 0x380) >> 3);
}

// Layout xor_256b: 16-byte chunks are permuted so that 8 rows meet 8 bank groups.
__device__ __forceinline__ unsigned swizzle_tokens(unsigned offset) {
  return offset ^ ((offset & 0x700) >> 4);
}

// Round to nearest even and stage one output, as the low half of a pair: ptxas takes a conversion of
// one sum for a use of it while matrix work is in flight (advice C7514).
__device__ __forceinline__ void stage_one(unsigned char* to, float x) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(0.0f), "f"(x));
  *reinterpret_cast<Output*>(to) = static_cast<Output>(bits);
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtasPerSm)
    ssmm_sm80_expand_4_8_32_bf16(
        const Element* __restrict__ weight,  // [stored rows, stored k / 2]
        const unsigned* __restrict__ metadata,  // fragment order
        const unsigned* __restrict__ slots,  // a nibble per row and 16 columns
        const Element* __restrict__ tokens,  // [token_count, k]
        Output* __restrict__ out,  // [n, m]
        long long token_stride,  // elements
        long long out_stride,  // elements
        int m,  // output features
        int n,  // output tokens
        int k  // input features
    ) {
  extern __shared__ __align__(128) unsigned char shared[];
  const unsigned shared_base = static_cast<unsigned>(__cvta_generic_to_shared(shared));

  // Place of this thread, and of the CTA: groups of kRasterGroup tile rows are walked column by
  // column, so that CTAs that run together share weight and token tiles in L2.
  const int lane = threadIdx.x % 32;
  const int warp_m = threadIdx.x / 32 % kWarpsM;
  const int warp_n = threadIdx.x / 32 / kWarpsM;
  const int tiles_m = (m + kTileM - 1) / kTileM;
  const int tiles_n = (n + kTileN - 1) / kTileN;
  const int group = blockIdx.x / (kRasterGroup * tiles_n);
  const int in_group = blockIdx.x % (kRasterGroup * tiles_n);
  const int group_rows = min(tiles_m - group * kRasterGroup, kRasterGroup);
  const int tile_m = group * kRasterGroup + in_group % group_rows;
  const int tile_n = in_group / group_rows;

  // The stored matrix: k padded to whole V-blocks, N stored rows for every M features.
  const int stored_k = (k + kFormatV - 1) / kFormatV * kFormatV;
  const int stored_rows = (m + kFormatM - 1) / kFormatM * kFormatN;
  const int first_stored_row = tile_m * kTileM / kFormatM * kFormatN;
  const int tiles_k = (stored_k + kTileK - 1) / kTileK;

  int write_stage = 0;  // the ring's stage that is filled next
  int read_stage = 0;   // the ring's stage that is computed on next

  float acc[kSets][kFragmentsM][kFragmentsN][4] = {};  // output rows

  // Weight chunks of this thread: 16 bytes of every kWeightCopyRows-th row of the tile. Rows and
  // columns that do not exist are filled with zeros.
  const int weight_copy_row = threadIdx.x / (kWeightRowBytes / 16);
  const int weight_copy_column = threadIdx.x % (kWeightRowBytes / 16) * 8;
  const int weight_rows_left = stored_rows - first_stored_row - weight_copy_row;
  const int weight_columns_left = stored_k / 2 - weight_copy_column;
  const long long weight_source_row = first_stored_row + weight_copy_row;
  const Element* const weight_source =
      weight + weight_source_row * (stored_k / 2) + weight_copy_column;
  const unsigned weight_target =
      shared_base + kWeightRing + swizzle_weight(weight_copy_row * kWeightRowBytes + weight_copy_column * 2);
  const auto copy_weight = [&](int tile) {
    const int column = tile * (kTileK / 2);
    const Element* from = weight_source + column;
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      const int row = i * kWeightCopyRows;
      const bool exists = row < weight_rows_left && column < weight_columns_left;
      const unsigned to = weight_target + write_stage * kWeightStage + row * kWeightRowBytes;
      cp_async_16b(to, from, exists ? 16 : 0);
      from += kWeightCopyRows * (stored_k / 2);
    }
  };

  // Token chunks of this thread, likewise. Rows are readable, and zero, up to a multiple of 8
  // columns behind k: the launcher sees to it.
  const int token_copy_row = threadIdx.x / (kTokenRowBytes / 16);
  const int token_copy_column = threadIdx.x % (kTokenRowBytes / 16) * 8;
  const int token_rows_left = n - tile_n * kTileN - token_copy_row;
  const int token_columns_left = k - token_copy_column;
  const Element* const token_source =
      tokens + (tile_n * kTileN + token_copy_row) * token_stride + token_copy_column;
  const unsigned token_target =
      shared_base + kTokenRing + swizzle_tokens(token_copy_row * kTokenRowBytes + token_copy_column * 2);
  const auto copy_tokens = [&](int tile) {
    const int bytes = tile * kTileK < token_columns_left ? 16 : 0;
    const Element* from = token_source + tile * kTileK;
#pragma unroll
    for (int i = 0; i < kTokenCopies; ++i) {
      const int row = i * kTokenCopyRows;
      const unsigned to = token_target + write_stage * kTokenStage + row * kTokenRowBytes;
      cp_async_16b(to, from, row < token_rows_left ? bytes : 0);
      from += kTokenCopyRows * token_stride;
    }
  };

  // Metadata: one word a lane, fragment and 64 columns, stored in the order the lanes read them.
  const int fragment_words = tiles_k * kMetadataWords * 32;
  const long long metadata_fragment =
      static_cast<long long>(tile_m) * kTileFragments +
      threadIdx.x / (kMetadataWords * 8);
  const unsigned* const metadata_source =
      metadata + metadata_fragment * fragment_words + threadIdx.x % (kMetadataWords * 8) * 4;
  const unsigned metadata_target = shared_base + kMetadataRing + threadIdx.x * 16;
  const auto copy_metadata = [&](int tile) {
#pragma unroll
    for (int i = 0; i < kMetadataCopies; ++i) {
      const int fragment =
          i * (kThreads / (kMetadataWords * 8));
      const unsigned to = metadata_target + write_stage * kMetadataStage + i * kThreads * 16;
      const unsigned* const from =
          metadata_source + fragment * fragment_words + tile * kMetadataWords * 32;
      cp_async_16b(to, from, tile < tiles_k ? 16 : 0);
    }
  };
  unsigned metadata_word[kFragmentsM][kMetadataWords];
  const unsigned* const metadata_lane = reinterpret_cast<const unsigned*>(
      shared + kMetadataRing + warp_m * kFragmentsM * kMetadataWords * 128 + lane * 4);

  const auto load_metadata = [&](int word) {
#pragma unroll
    for (int f = 0; f < kFragmentsM; ++f) {
      const int at = (f * kMetadataWords + word) * 32;
      metadata_word[f][word] = metadata_lane[read_stage * (kMetadataStage / 4) + at];
    }
  };

  // Slot words: a nibble for each k32 step names the stored row of this lane's output row and
  // 16 columns inside its block, or kAbsent.
  const int fold_words = (stored_k + kTilesPerWord * kTileK - 1) / (kTilesPerWord * kTileK);
  const long long slot_fragment =
      static_cast<long long>(tile_m) * kTileFragments + threadIdx.x / 8;
  const unsigned* const slot_source =
      slots + slot_fragment * fold_words * 32 + threadIdx.x % 8 * 4;
  const auto copy_fold = [&](int tile) {
#pragma unroll
    for (int i = 0; i < kFoldCopies; ++i) {
      const int slot_copy = i * (kThreads / 8);
      const int word = slot_copy * fold_words + tile / kTilesPerWord;
      const int chunk = threadIdx.x + i * kThreads;
      const unsigned to = shared_base + kFoldRing + write_stage * kFoldStage + chunk * 16;
      const unsigned* const from = slot_source + word * 32;
      cp_async_16b(to, from, tile < tiles_k ? 16 : 0);
    }
  };
  const unsigned* const slot_lane =
      reinterpret_cast<const unsigned*>(shared + kFoldRing + warp_m * kFragmentsM * 128 + lane * 4);
  unsigned fold_word[kFragmentsM];
  const auto load_fold_words = [&]() {
#pragma unroll
    for (int f = 0; f < kFragmentsM; ++f) {
      fold_word[f] = slot_lane[read_stage * (kFoldStage / 4) + f * 32];
    }
  };
  // First stored row of the block that this lane's output row belongs to, within the tile.
  const int first_feature = tile_m * kTileM + warp_m * kWarpFeatures;
  const int block_row = (first_feature + lane % 16) / kFormatM * kFormatN - first_stored_row;

  // Weight fragments; of two buffers one is loaded while the other is multiplied. Fragment rows are
  // output rows: each reads its sub-row's stored row, or zeros where its sub-row is not kept. The
  // zeros fill one line of banks: a lane takes them where the row four behind its octet's first
  // would lie, which no kept row of the octet does when half of the sub-rows are kept.
  unsigned weight_fragment[kFragmentBuffers][kFragmentsM][4];
  const int octet_row = (first_feature + lane / 8 % 2 * 8) / kFormatM * kFormatN - first_stored_row;
  const unsigned zero_lane = swizzle_weight((octet_row + 4) * kWeightRowBytes + lane / 16 * 16);
  const auto load_weight = [&](int buffer, int step, int tile) {
    const unsigned stage = shared_base + kWeightRing + read_stage * kWeightStage;
    const unsigned zeros = shared_base + kZeros + ((zero_lane ^ (step * kStepK)) & 0x70);
#pragma unroll
    for (int f = 0; f < kFragmentsM; ++f) {
      const int slot = fold_word[f] >> (4 * (tile % kTilesPerWord * kSteps + step)) & 15;
      const int row = block_row + f * (16 / kFormatM * kFormatN) + slot;
      const unsigned kept = swizzle_weight(row * kWeightRowBytes + lane / 16 * 16 + step * kStepK);
      ldmatrix_x4(weight_fragment[buffer][f], slot == kAbsent ? zeros : stage + kept);
    }
  };

  // Token fragments, one buffer: a fragment is loaded for the next step as soon as it is used up.
  unsigned token_fragment[kFragmentsN][4];
  const int token_row = warp_n * kWarpTokens + lane % 8;
  const unsigned token_lane = swizzle_tokens(token_row * kTokenRowBytes + lane / 8 * 16);
  const auto load_token = [&](int t, int step) {
    const unsigned stage = shared_base + kTokenRing + read_stage * kTokenStage;
    ldmatrix_x4(token_fragment[t],
                stage + t * 8 * kTokenRowBytes + (token_lane ^ (step * 2 * kStepK)));
  };
  const auto load_tokens = [&](int step) {
#pragma unroll
    for (int t = 0; t < kFragmentsN; ++t) load_token(t, step);
  };

  // One step of every fragment pair of a token fragment.
  const auto multiply_token = [&](int t, int buffer, int step) {
#pragma unroll
    for (int f = 0; f < kFragmentsM; ++f) {
      mma_sp_m16n8k32(acc[0][f][t], weight_fragment[buffer][f], token_fragment[t],
                      metadata_word[f][step / kStepsPerWord], step % kStepsPerWord);
    }
  };

  const auto multiply_and_load = [&](int buffer, int step, int next) {
#pragma unroll
    for (int t = 0; t < kFragmentsN; ++t) {
      multiply_token(t, buffer, step);
      load_token(t, next);
    }
  };

  // Prologue.
  // The zeros that absent sub-rows read; the first barrier of the loop publishes them.
  if (threadIdx.x < 32) reinterpret_cast<unsigned*>(shared + kZeros)[threadIdx.x] = 0;

#pragma unroll
  for (int tile = 0; tile < kStages - 1; ++tile) {
    copy_weight(tile);
    copy_tokens(tile);
    copy_metadata(tile);
    copy_fold(tile);
    cp_async_commit();
    ++write_stage;
  }

  cp_async_wait_0();

  // Every warp's copies of the first tile are visible.
  __syncthreads();

  load_metadata(0);

  load_fold_words();

  load_weight(0, 0, 0);

  load_tokens(0);

  // Main loop over k.
#pragma unroll 1
  for (int tile = 0; tile < tiles_k; ++tile) {
    // Past the last tile the copies fill zeros, so that every iteration is alike.
    copy_weight(tile + 1);
    copy_tokens(tile + 1);
    copy_metadata(tile + 1);
    copy_fold(tile + 1);
    cp_async_commit();
    write_stage = write_stage + 1 == kStages ? 0 : write_stage + 1;

    load_metadata(1);

    load_weight(1, 1, tile);

    multiply_and_load(0, 0, 1);

    load_weight(0, 2, tile);

    multiply_and_load(1, 1, 2);

    load_weight(1, 3, tile);

    multiply_and_load(0, 2, 3);

    cp_async_wait_0();

    // The next tile is visible to every warp, and no warp still reads this one's stage.
    __syncthreads();

    read_stage = read_stage + 1 == kStages ? 0 : read_stage + 1;

    load_metadata(0);

    load_fold_words();

    load_weight(0, 0, tile + 1);

    multiply_and_load(1, 3, 0);
  }

  // Epilogue.
  {
    cp_async_wait_0();

    // Staging reuses the bytes of the ring.
    __syncthreads();

    // Stage 8 tokens of this warp in shared memory, then store them 16 bytes a lane. Places are
    // derived anew, so that they take no registers during the main loop.
    const int thread = thread_index();
    const int lane = thread % 32;
    const int first_token = tile_n * kTileN + thread / 32 / kWarpsM * kWarpTokens;
    const int first_feature = tile_m * kTileM + thread / 32 % kWarpsM * kWarpFeatures;
    unsigned char* const staging = shared + kStaging + thread / 32 * 8 * kStagingStride;
    const bool aligned = out_stride % kChunkElements == 0;
#pragma unroll
    for (int t = 0; t < kFragmentsN; ++t) {
      __syncwarp();
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int half = c / 2;
        const int token = lane % 4 * 2 + c % 2;
#pragma unroll
        for (int f = 0; f < kFragmentsM; ++f) {
          const int feature = (f * 16 + half * 8 + lane / 4) * kFeaturesPerRow;
          const float value[1] = {acc[0][f][t][c]};

          float result[kFeaturesPerRow];
#pragma unroll
          for (int i = 0; i < kFeaturesPerRow; ++i) {
            result[i] = value[i];
          }
          unsigned char* const to = staging + token * kStagingStride + feature * sizeof(Output);
#pragma unroll
          for (int i = 0; i < kFeaturesPerRow; ++i) stage_one(to + i * sizeof(Output), result[i]);
        }
      }
      __syncwarp();
#pragma unroll 1
      for (int chunk = lane; chunk < kStoreChunks; chunk += 32) {
        const int token = chunk / (kStoreChunks / 8);
        const int column = chunk % (kStoreChunks / 8) * kChunkElements;
        const int place = first_token + t * 8 + token;
        const int feature = first_feature + column;
        if (place < n && feature < m) {
          union {
            uint4 whole;
            Output each[kChunkElements];
          } piece;
          const unsigned char* const from = staging + token * kStagingStride + column * sizeof(Output);
          piece.whole = *reinterpret_cast<const uint4*>(from);
          Output* const row = out + place * out_stride + feature;
          if (aligned && feature + kChunkElements <= m) {
            *reinterpret_cast<uint4*>(row) = piece.whole;
          } else {
#pragma unroll
            for (int e = 0; e < kChunkElements; ++e) {
              if (feature + e < m) row[e] = piece.each[e];
            }
          }
        }
      }
    }
  }
}
