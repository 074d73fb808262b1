// decode_sm80_1_2_64_bf16:
// out[i, :] = tokens[i, :] times the transposed sparse weight.
//
// Generated from schedules/decode_sm80.py and templates/stream.cu.jinja.
// Do not edit: run `samoyeds-gen emit`.
// Schedule 8876adb002ae, written for sm_80.

// Format (1,2,64): N of every M sub-rows of V columns are kept, 2:4 sparse inside.
constexpr int kFormatV = 64;  // dense columns a block
// Tile.
constexpr int kTileM = 128;  // output features a CTA
constexpr int kTileN = 16;  // tokens a CTA
constexpr int kTileK = 1024;  // dense columns a chunk of tokens
constexpr int kWarpsM = 4;  // warps along the features
constexpr int kWarpsK = 4;  // warps that take turns along k
constexpr int kThreads = 512;  // 32 x kWarpsM x kWarpsK
constexpr int kCtasPerSm = 1;  // resident CTAs the compiler makes room for
constexpr int kSplits = 2;  // CTAs that share out the columns of a tile
// Fragments of one warp.
constexpr int kSets = 2;  // accumulator sets
constexpr int kFragmentsM = 1;  // fragments of 16 stored rows a warp
constexpr int kFragmentsN = 2;  // fragments of 8 tokens a warp
constexpr int kFeaturesPerRow = 2;  // output features of a stored row
// What is in flight.
constexpr int kGroupSteps = 4;  // matrix steps a group
constexpr int kGroupK = 128;  // dense columns a group
constexpr int kGroups = 2;  // groups in flight a lane
constexpr int kChunkGroups = 2;  // groups of a warp in a chunk of tokens
constexpr int kChunks = 2;  // chunks of tokens in shared memory
constexpr int kOffsetK = 64;  // dense columns that share an offset
constexpr int kGroupsPerWord = 4;  // groups one word of offsets covers
constexpr int kOffsetsPerGroup = 2;  // offsets a row and group
// Shared memory, in bytes.
constexpr int kTokenRing = 0;  // first byte of the chunks of tokens
constexpr int kChunkBytes = 32768;  // bytes a chunk
constexpr int kPanelBytes = 2048;  // bytes a panel of 64 columns
constexpr int kTokenRowBytes = 128;  // bytes of a token in a panel
constexpr int kTokenPieces = 2048;  // 16-byte pieces a chunk
constexpr int kTokenCopies = 4;  // pieces a thread copies
constexpr int kSliceTokens = 8;  // tokens finished at a time
constexpr int kQuad = 4;  // features a thread finishes at a time
constexpr int kSums = 128;  // first byte of the sums of a slice
constexpr int kSumStride = 132;  // floats a token: 4 modulo 16 keep banks apart
constexpr int kSliceSums = 1056;  // floats a warp along k
constexpr int kLast = 0;  // first byte of the last CTA's flag
constexpr int kSharedBytes = 65536;  // dynamic shared memory
static_assert(kThreads == 32 * kWarpsM * kWarpsK, "a warp owns rows of the tile and turns along k");
static_assert(kTileN == kFragmentsN * kSliceTokens, "fragments cover the tokens of the tile");
static_assert(kTileK == kChunkGroups * kWarpsK * kGroupK, "warps along k share out a chunk");
static_assert(kGroups % kChunkGroups == 0 || kChunkGroups % kGroups == 0,
              "a turn is whole chunks of tokens, or a chunk whole turns");
static_assert(kChunkBytes == kTileK / 64 * kPanelBytes, "panels of 64 columns cover a chunk");
static_assert(kPanelBytes == kTileN * kTokenRowBytes, "rows cover a panel");
static_assert(kTokenCopies * kThreads >= kTokenPieces, "threads cover the pieces of a chunk");
static_assert(kTokenRing + kChunks * kChunkBytes <= kSharedBytes, "the chunks of tokens fit");
static_assert(kSums + 4 * kWarpsK * kSliceSums <= kSharedBytes, "the sums of a slice fit");
static_assert(kTileM % kQuad == 0, "a thread finishes whole quads");
static_assert(kFormatV % 16 == 0, "a V-block is a whole number of 16-byte pieces");

typedef unsigned short Element;  // the bits of one bfloat16
typedef unsigned short Output;  // bfloat16
// Load 16 bytes that no other thread of the multiprocessor reads, past the L1 cache.
__device__ __forceinline__ void ldg_stream_16b(unsigned (&to)[4], const unsigned* from) {
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "l"(from));
}

// Load 8 bytes that no other thread of the multiprocessor reads, past the L1 cache.
__device__ __forceinline__ void ldg_stream_8b(unsigned (&to)[2], const unsigned* from) {
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v2.u32 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "l"(from));
}

// Load 8 bytes that other lanes and later groups read too.
__device__ __forceinline__ void ldg_8b(unsigned (&to)[2], const unsigned* from) {
  asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
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

// Load 16 bytes that another CTA of this launch wrote: from L2, past what L1 may remember.
__device__ __forceinline__ float4 ldg_l2_16b(const float* from) {
  float4 x;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "l"(from)
               : "memory");
  return x;
}

// Order this thread's memory accesses, and those it has learnt of, for every CTA of the GPU.
__device__ __forceinline__ void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// Layout xor_128b: 16-byte chunks are permuted so that 8 rows meet 8 bank groups.
__device__ __forceinline__ unsigned swizzle_tokens(unsigned offset) {
  return offset ^ ((offset & 0x380) >> 3);
}

// to += x.
__device__ __forceinline__ void add(float4& to, float4 x) {
  to.x += x.x;
  to.y += x.y;
  to.z += x.z;
  to.w += x.w;
}

// Four outputs, rounded to nearest even.
union Quad {
  uint2 whole;
  Output each[kQuad];
};
__device__ __forceinline__ Quad convert(const float (&x)[kQuad]) {
  Quad quad;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(quad.whole.x) : "f"(x[1]), "f"(x[0]));
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(quad.whole.y) : "f"(x[3]), "f"(x[2]));
  return quad;
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtasPerSm)
    decode_sm80_1_2_64_bf16(
        const unsigned* __restrict__ weight,  // registers of k32 steps
        const unsigned* __restrict__ metadata,  // two words a lane and group
        const unsigned* __restrict__ offsets,  // a nibble: position less place in the band
        const Element* __restrict__ tokens,  // [token_count, k]
        Output* __restrict__ out,  // [n, m]
        float* parts,  // [tiles, splits, tile n, tile m]
        unsigned* tickets,  // [tiles], all zero
        long long token_stride,  // elements
        long long out_stride,  // elements
        int m,  // output features
        int n,  // output tokens
        int k  // input features
    ) {
  extern __shared__ __align__(128) unsigned char shared[];
  const unsigned shared_base = static_cast<unsigned>(__cvta_generic_to_shared(shared));

  // Place of this thread, and of the CTA: those that share weights run together.
  const int lane = threadIdx.x % 32;
  const int warp_m = threadIdx.x / 32 % kWarpsM;
  const int warp_k = threadIdx.x / 32 / kWarpsM;
  const int tile_m = blockIdx.y;
  const int tile_n = blockIdx.x / kSplits;
  const int split = blockIdx.x % kSplits;
  // The stored matrix: k padded to whole V-blocks, then to whole groups. This CTA takes the groups
  // from first_group on, its warps along k one each in turn; chunks of tokens follow the groups.
  const int stored_k = (k + kFormatV - 1) / kFormatV * kFormatV;
  const int groups = (stored_k + kGroupK - 1) / kGroupK;
  const int share = (groups + kSplits - 1) / kSplits;
  const int first_group = min(split * share, groups);
  const int end_group = min(first_group + share, groups);
  const int chunks = (end_group - first_group + kTileK / kGroupK - 1) / (kTileK / kGroupK);
  int group = first_group + warp_k;  // what this warp multiplies next
  int chunk = 0;                     // the tokens that it multiplies them with
  int read_stage = 0;                // where these lie
  int write_stage = 0;               // where tokens are copied to next

  float acc[kSets][kFragmentsM][kFragmentsN][4] = {};  // running sum, then 1 rows of each block

  // Weights in flight: kGroups groups of four steps, of which a lane holds the registers. Each slot
  // is loaded again, for the group one turn later, as soon as it has been multiplied.
  const int fragment = (tile_m * kWarpsM + warp_m) * kFragmentsM;
  const long long first_word = static_cast<long long>(fragment) * groups;
  const unsigned* const weight_lane = weight + first_word * (kGroupSteps * 128) + lane * 4;
  const unsigned* const metadata_lane = metadata + first_word * 64 + lane * 2;
  unsigned weight_words[kGroups][kFragmentsM][kGroupSteps][4];
  unsigned metadata_words[kGroups][kFragmentsM][2];
  // Offsets of the rows g and g + 8 of a fragment: which of its output rows a sub-row belongs to.
  const int words = (groups + kGroupsPerWord - 1) / kGroupsPerWord;
  const unsigned* const offset_lane =
      offsets + static_cast<long long>(fragment) * words * 16 + lane / 4 * 2;
  unsigned offset_words[kGroups][kFragmentsM][2];
  const auto load_offsets = [&](int slot, int f, int group) {
    ldg_8b(offset_words[slot][f], offset_lane + (f * words + group / kGroupsPerWord) * 16);
  };

  const auto load_group = [&](int slot, int group) {
    if (group < end_group) {
#pragma unroll
      for (int f = 0; f < kFragmentsM; ++f) {
        const long long at = f * groups + group;
#pragma unroll
        for (int step = 0; step < kGroupSteps; ++step) {
          ldg_stream_16b(weight_words[slot][f][step],
                         weight_lane + at * (kGroupSteps * 128) + step * 128);
        }
        ldg_stream_8b(metadata_words[slot][f], metadata_lane + at * 64);
        load_offsets(slot, f, group);
      }
    }
  };

  // Tokens: pieces of 16 bytes, eight threads to a row of a panel. Rows are readable, and zero, up to
  // a multiple of 8 columns behind k: the launcher sees to it. What does not exist becomes zeros.
  const int end_column = min(k, end_group * kGroupK);
  const int rows_left = n - tile_n * kTileN;
  const Element* const token_source = tokens + tile_n * kTileN * token_stride;
  const auto copy_tokens = [&](int chunk) {
    const unsigned chunk_base = shared_base + kTokenRing + write_stage * kChunkBytes;
    const int first_column = first_group * kGroupK + chunk * kTileK + threadIdx.x % 8 * 8;
#pragma unroll
    for (int i = 0; i < kTokenCopies; ++i) {
      const int row = threadIdx.x / 8 % kTileN;
      const int column = first_column + (threadIdx.x / 8 / kTileN + i * (kThreads / 8 / kTileN)) * 64;
      const bool exists = row < rows_left && column < end_column;
      const Element* const from = token_source + row * token_stride + column;
      const int bytes = exists ? 16 : 0;
      const unsigned to = chunk_base + swizzle_tokens(threadIdx.x * 16) + i * kThreads * 16;
      cp_async_16b(to, exists ? from : tokens, bytes);
    }
  };

  // Token fragments: a lane names the row and 16 bytes it contributes to ldmatrix; of two steps that
  // share a panel the second lies 64 bytes further, which flips a bit under the swizzle.
  const unsigned token_lane = swizzle_tokens(lane % 8 * kTokenRowBytes + lane / 8 * 16);
  const unsigned token_warp = shared_base + kTokenRing + warp_k * (kGroupK / 64) * kPanelBytes;
  const auto load_token = [&](unsigned (&to)[4], int part, int step, int t) {
    const unsigned panel = token_warp + read_stage * kChunkBytes +
                           (part * kWarpsK * (kGroupK / 64) + step / 2) * kPanelBytes;
    ldmatrix_x4(to, panel + t * 8 * kTokenRowBytes + (token_lane ^ (step % 2 * 64)));
  };

  // Prefix sums: with s_j = 1 where a row's sub-row is kept in block j and P_j the running sum after
  // it, the row is the sum of (s_j - s_{j+1}) P_j, so the running sum is never reset. The blocks
  // are those that this warp meets, one after the other.
  constexpr unsigned kNoRow = 15;
  unsigned before[kFragmentsM][2];  // offset of the columns before
#pragma unroll
  for (int f = 0; f < kFragmentsM; ++f) before[f][0] = before[f][1] = kNoRow;
  const auto add_prefix = [&](int f, int half, unsigned now) {
#pragma unroll
    for (int p = 0; p < kSets - 1; ++p) {
      const int leaves = before[f][half] == p;
      const int enters = now == p;
      const float factor = static_cast<float>(leaves - enters);
#pragma unroll
      for (int t = 0; t < kFragmentsN; ++t) {
#pragma unroll
        for (int c = 2 * half; c < 2 * half + 2; ++c) {
          acc[p + 1][f][t][c] = __fmaf_rn(factor, acc[0][f][t][c], acc[p + 1][f][t][c]);
        }
      }
    }
    before[f][half] = now;
  };

  // The four steps of a group; every second step reads the other lane pair's metadata.
  const auto multiply = [&](int slot, int part) {
    if (group < end_group) {
      // Offsets of this group, lowest first.
      unsigned offset[kFragmentsM][2];
#pragma unroll
      for (int f = 0; f < kFragmentsM; ++f) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          offset[f][half] = offset_words[slot][f][half];
          offset[f][half] >>= 4 * kOffsetsPerGroup * (group % kGroupsPerWord);
        }
      }

#pragma unroll
      for (int step = 0; step < kGroupSteps; ++step) {
        const int column = step * (kGroupK / kGroupSteps);
        if (column % kOffsetK == 0) {
#pragma unroll
          for (int f = 0; f < kFragmentsM; ++f) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              add_prefix(f, half, offset[f][half] >> (4 * (column / kOffsetK)) & 15);
            }
          }
        }
#pragma unroll
        for (int t = 0; t < kFragmentsN; ++t) {
          unsigned token[4];
          load_token(token, part, step, t);
#pragma unroll
          for (int f = 0; f < kFragmentsM; ++f) {
            mma_sp_m16n8k32(acc[0][f][t], weight_words[slot][f][step], token,
                            metadata_words[slot][f][step / 2], step % 2);
          }
        }
      }
    }
  };

  // Prologue: weights first, so that they travel while tokens are looked up and copied.
#pragma unroll
  for (int slot = 0; slot < kGroups; ++slot) load_group(slot, group + slot * kWarpsK);

#pragma unroll
  for (int chunk = 0; chunk < kChunks - 1; ++chunk) {
    if (chunk < chunks) copy_tokens(chunk);
    cp_async_commit();
    ++write_stage;
  }

  // Main loop over chunks of tokens: each slot is multiplied and at once loaded again.
#pragma unroll 1
  while (chunk < chunks) {
    cp_async_wait_0();

    // This chunk is visible to every warp, and no warp still reads the one before it.
    __syncthreads();

    if (chunk + 1 < chunks) copy_tokens(chunk + 1);
    cp_async_commit();
    write_stage = write_stage + 1 == kChunks ? 0 : write_stage + 1;

    multiply(0, 0);

    load_group(0, group + kGroups * kWarpsK);
    group += kWarpsK;

    multiply(1, 1);

    load_group(1, group + kGroups * kWarpsK);
    group += kWarpsK;

    read_stage = read_stage + 1 == kChunks ? 0 : read_stage + 1;
    ++chunk;
  }

  // Epilogue.
  // No block follows the last one.
#pragma unroll
  for (int f = 0; f < kFragmentsM; ++f) {
#pragma unroll
    for (int half = 0; half < 2; ++half) add_prefix(f, half, kNoRow);
  }

  cp_async_wait_0();

  const int tokens_left = n - tile_n * kTileN;
  const int features_left = m - tile_m * kTileM;
  const bool aligned = out_stride % kQuad == 0;
  // Finish four neighbouring features of one token of the tile and store them.
  const auto store_quad = [&](int token, int column, float4 sum) {
    const int feature = tile_m * kTileM + column;
    const int place = tile_n * kTileN + token;
    float result[kQuad] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int e = 0; e < kQuad; ++e) {
    }
    const Quad quad = convert(result);
    Output* const to = out + place * out_stride + feature;
    if (aligned && feature + kQuad <= m) {
      reinterpret_cast<Quad*>(to)->whole = quad.whole;
    } else {
#pragma unroll
      for (int e = 0; e < kQuad; ++e) {
        if (feature + e < m) to[e] = quad.each[e];
      }
    }
  };

  // Sums of this tile, a part for each CTA along k.
  const int tile = tile_m * (gridDim.x / kSplits) + tile_n;
  float* const tile_parts = parts + static_cast<long long>(tile) * kSplits * (kTileN * kTileM);

  // Sums of 8 tokens at a time are brought together in the bytes of the token chunks.
  float* const sums = reinterpret_cast<float*>(shared + kSums);
  float* const mine = sums + warp_k * kSliceSums;
#pragma unroll
  for (int t = 0; t < kFragmentsN; ++t) {
    // Nobody reads these bytes any more, neither as tokens nor as the slice before.
    __syncthreads();
#pragma unroll
    for (int f = 0; f < kFragmentsM; ++f) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int row = (warp_m * kFragmentsM + f) * 16 + c / 2 * 8 + lane / 4;
        float* const to = mine + (lane % 4 * 2 + c % 2) * kSumStride + row * kFeaturesPerRow;
        // The last row of a block is what the others leave of the running sum.
        float value[kFeaturesPerRow];
        value[kFeaturesPerRow - 1] = acc[0][f][t][c];
#pragma unroll
        for (int i = 0; i < kFeaturesPerRow - 1; ++i) {
          value[i] = acc[i + 1][f][t][c];
          value[kFeaturesPerRow - 1] -= value[i];
        }

#pragma unroll
        for (int i = 0; i < kFeaturesPerRow; ++i) to[i] = value[i];
      }
    }

    // Every warp's sums of this slice are visible.
    __syncthreads();
#pragma unroll 1
    for (int quad = threadIdx.x; quad < kSliceTokens * kTileM / kQuad; quad += kThreads) {
      const int token = quad / (kTileM / kQuad);
      const int column = quad % (kTileM / kQuad) * kQuad;
      if (t * kSliceTokens + token < tokens_left && column < features_left) {
        const float* const from = sums + token * kSumStride + column;
        float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll
        for (int warp = 1; warp < kWarpsK; ++warp) {
          add(sum, *reinterpret_cast<const float4*>(from + warp * kSliceSums));
        }
        const int at = (split * kTileN + t * kSliceTokens + token) * kTileM + column;
        *reinterpret_cast<float4*>(tile_parts + at) = sum;
      }
    }
  }

  // The part is published before the ticket is taken: every thread's stores, then the barrier, then
  // a fence by the one thread that takes it. The ticket counts round to zero for the next launch.
  int* const last = reinterpret_cast<int*>(shared + kLast);
  __syncthreads();
  if (threadIdx.x == 0) {
    fence_gpu();
    const unsigned ticket = atomicInc(tickets + tile, kSplits - 1);
    fence_gpu();
    *last = ticket == kSplits - 1;
  }
  __syncthreads();
  if (*last == 0) return;

  // All parts are there: add them in the order of the splits.
#pragma unroll 1
  for (int quad = threadIdx.x; quad < kTileN * kTileM / kQuad; quad += kThreads) {
    const int token = quad / (kTileM / kQuad);
    const int column = quad % (kTileM / kQuad) * kQuad;
    if (token < tokens_left && column < features_left) {
      const float* const from = tile_parts + token * kTileM + column;
      float4 sum = ldg_l2_16b(from);
#pragma unroll
      for (int s = 1; s < kSplits; ++s) add(sum, ldg_l2_16b(from + s * (kTileN * kTileM)));
      store_quad(token, column, sum);
    }
  }
}
