// place_256_top8_shared1:
// slots of 8 choices a token are sorted by 256 experts.
//
// Generated from templates/routing.cu.jinja for sm_80.
// Do not edit: run `samoyeds-gen emit`.

// Routing.
constexpr int kExperts = 256;  // experts to choose from
constexpr int kTopK = 8;  // experts a token chooses
constexpr int kShared = 1;  // experts that take every token
constexpr int kChoices = 9;  // slots of a token
// Threads.
constexpr int kThreads = 1024;  // threads a CTA
constexpr int kCtasPerSm = 1;  // resident CTAs the compiler makes room for
constexpr int kScan = 8;  // experts a lane of the scan has
constexpr int kColumns = 256;  // threads that add up the experts of one chunk
constexpr int kRows = 4;  // chunks that are added up at a time
// Shared memory.
constexpr int kBits = 0;  // first byte of the bits of experts and tokens
constexpr int kFirstSlot = 32768;  // first byte of the first slots of experts
constexpr int kBefore = 33792;  // first byte of the tokens of earlier chunks, by expert
static_assert(kTopK <= kExperts, "a token chooses different experts");
static_assert(kChoices == kTopK + kShared, "chosen and shared experts take slots");
static_assert(32 * kScan >= kExperts, "a warp scans all experts");
static_assert(kColumns * kRows == kThreads, "every thread adds up counts");
// How many tokens before this one have their bit set.
__device__ __forceinline__ int earlier(const unsigned* bits, int token) {
  int count = __popc(bits[token / 32] & ((1u << token % 32) - 1));
#pragma unroll 1
  for (int word = 0; word < token / 32; ++word) count += __popc(bits[word]);
  return count;
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtasPerSm)
    place_256_top8_shared1(
        const int* __restrict__ experts,  // chosen experts [tokens, kTopK]
        const float* __restrict__ weights,  // their weights [tokens, kTopK]
        const int* __restrict__ counts,  // tokens of chunks and experts [chunks, kExperts]
        int* __restrict__ offsets,  // first slot of each expert [kExperts + kShared + 1]
        int* __restrict__ selection,  // token of each slot [tokens * kChoices]
        float* __restrict__ scale,  // weight of each slot [tokens * kChoices]
        int* __restrict__ slots,  // slots of each token [tokens, kChoices]
        int tokens,  // tokens
        int chunk  // tokens a CTA takes, whole words of bits
    ) {
  // Each CTA has a chunk of the tokens, 32 or a multiple.
  const int first_token = blockIdx.x * chunk;
  const int end_token = min(first_token + chunk, tokens);

  // Bit t of expert e: token first_token + t has chosen it. Nobody has chosen yet.
  extern __shared__ __align__(16) unsigned char shared[];
  unsigned* const bits = reinterpret_cast<unsigned*>(shared + kBits);
  int* const first_slot = reinterpret_cast<int*>(shared + kFirstSlot);
  const int words = (end_token - first_token + 31) / 32;
#pragma unroll 1
  for (int i = threadIdx.x; i < kExperts * words; i += kThreads) bits[i] = 0;

  // Tokens of earlier chunks that chose each expert: none counted yet.
  int* const before = reinterpret_cast<int*>(shared + kBefore);
#pragma unroll 1
  for (int i = threadIdx.x; i < kExperts; i += kThreads) {
    first_slot[i] = 0;
    before[i] = 0;
  }
  __syncthreads();

  // The bits of this chunk.
#pragma unroll 1
  for (int at = first_token * kTopK + threadIdx.x; at < end_token * kTopK; at += kThreads) {
    const int token = at / kTopK - first_token;
    atomicOr(bits + experts[at] * words + token / 32, 1u << token % 32);
  }

  // Tokens of each expert, in all chunks and in earlier ones: whole numbers, so that the order in
  // which threads add them does not matter.
  const int column = threadIdx.x % kColumns;
  if (column < kExperts) {
    int all = 0;
    int earlier_chunks = 0;
#pragma unroll 4
    for (int row = threadIdx.x / kColumns; row < gridDim.x; row += kRows) {
      const int count = counts[row * kExperts + column];
      all += count;
      earlier_chunks += row < blockIdx.x ? count : 0;
    }
    atomicAdd(first_slot + column, all);
    atomicAdd(before + column, earlier_chunks);
  }
  __syncthreads();

  // First slots: the tokens of all experts before. A lane has kScan neighbouring experts.
  if (threadIdx.x < 32) {
    int here[kScan];
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kScan; ++i) {
      const int at = threadIdx.x * kScan + i;
      here[i] = sum;
      sum += at < kExperts ? first_slot[at] : 0;
    }
    int through = sum;
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
      const int lower = __shfl_up_sync(0xffffffffu, through, apart);
      through += threadIdx.x >= apart ? lower : 0;
    }
#pragma unroll
    for (int i = 0; i < kScan; ++i) {
      const int at = threadIdx.x * kScan + i;
      if (at < kExperts) first_slot[at] = through - sum + here[i] + before[at];
    }
  }
  __syncthreads();

  // Where experts begin, from the CTA whose tokens come first; shared experts follow the others.
  if (blockIdx.x == 0) {
#pragma unroll 1
    for (int i = threadIdx.x; i <= kExperts + kShared; i += kThreads) {
      offsets[i] = i < kExperts ? first_slot[i] : (kTopK + i - kExperts) * tokens;
    }
  }

  // Every choice takes its slot.
#pragma unroll 1
  for (int at = first_token * kTopK + threadIdx.x; at < end_token * kTopK; at += kThreads) {
    const int token = at / kTopK;
    const int expert = experts[at];
    const int slot = first_slot[expert] + earlier(bits + expert * words, token - first_token);
    selection[slot] = token;
    scale[slot] = weights[at];
    slots[token * kChoices + at % kTopK] = slot;
  }

  // Shared experts take every token.
#pragma unroll 1
  for (int i = threadIdx.x; i < (end_token - first_token) * kShared; i += kThreads) {
    const int token = first_token + i / kShared;
    const int slot = (kTopK + i % kShared) * tokens + token;
    selection[slot] = token;
    scale[slot] = 1.0f;
    slots[token * kChoices + kTopK + i % kShared] = slot;
  }
}
