// route_64_top6_softmax_score_f32:
// every token chooses 6 of 64 experts, then slots are sorted.
//
// Generated from templates/routing.cu.jinja for sm_80.
// Do not edit: run `samoyeds-gen emit`.

// Routing.
constexpr int kExperts = 64;  // experts to choose from
constexpr int kTopK = 6;  // experts a token chooses
constexpr int kShared = 0;  // experts that take every token
constexpr int kChoices = 6;  // slots of a token
// Choice.
constexpr int kLaneExperts = 2;  // experts a lane scores
constexpr int kRemoved = 0;  // rank of an expert that cannot be chosen
constexpr int kNowhere = 1024;  // above every expert
// Threads.
constexpr int kThreads = 1024;  // threads a CTA
constexpr int kCtasPerSm = 1;  // resident CTAs the compiler makes room for
constexpr int kWarps = 32;  // tokens that are chosen for at a time
constexpr int kScan = 2;  // experts a lane of the scan has
// Shared memory.
constexpr int kBits = 0;  // first byte of the bits of experts and tokens
constexpr int kFirstSlot = 2048;  // first byte of the first slots of experts
constexpr int kKeptExperts = 2304;  // first byte of the chosen experts
constexpr int kKeptWeights = 8448;  // first byte of the weights of these
typedef float Logit;  // float32
static_assert(kTopK <= kExperts, "a token chooses different experts");
static_assert(kChoices == kTopK + kShared, "chosen and shared experts take slots");
static_assert(32 * kScan >= kExperts, "a warp scans all experts");
static_assert(kThreads == 32 * kWarps, "a warp chooses for a token");
static_assert(kTopK <= 32, "a lane has a chosen expert");
static_assert(32 * kLaneExperts >= kExperts, "the lanes have all experts");
static_assert(kNowhere >= 32 * kLaneExperts, "no expert is nowhere");
// The largest value of a warp.
__device__ __forceinline__ unsigned redux_max(unsigned x) {
  unsigned y;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(y) : "r"(x));
  return y;
}

// The smallest value of a warp.
__device__ __forceinline__ unsigned redux_min(unsigned x) {
  unsigned y;
  asm volatile("redux.sync.min.u32 %0, %1, 0xffffffff;" : "=r"(y) : "r"(x));
  return y;
}

// The value of a float32.
__device__ __forceinline__ float widen_f32(float x) { return x; }

// Minus infinity.
__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// Whole numbers in the order of scores, above kRemoved. NaN ranks as minus infinity; zeros of both
// signs are equal.
__device__ __forceinline__ unsigned rank_of(float score) {
  const float known = score != score ? minus_infinity() : score;
  const unsigned bits = __float_as_uint(known == 0.0f ? 0.0f : known);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The score of a rank.
__device__ __forceinline__ float score_of(unsigned rank) {
  return __uint_as_float(rank & 0x80000000u ? rank & 0x7fffffffu : ~rank);
}

// e to the power of x <= 0, every step rounded on its own: the same bits as the reference has.
// x = n ln 2 + r; the series of e to the r; zero below -87, before results become subnormal.
__device__ __forceinline__ float exponential(float x) {
  const int n = __float2int_rn(fmaxf(__fmul_rn(x, 1.44269504f), -126.0f));
  const float whole = static_cast<float>(n);
  const float rest = __fsub_rn(x, __fmul_rn(whole, 0.693115234375f));
  const float r = __fsub_rn(rest, __fmul_rn(whole, 3.19461833e-05f));
  float p = 0.000198412701f;
  p = __fadd_rn(__fmul_rn(p, r), 0.00138888892f);
  p = __fadd_rn(__fmul_rn(p, r), 0.00833333377f);
  p = __fadd_rn(__fmul_rn(p, r), 0.0416666679f);
  p = __fadd_rn(__fmul_rn(p, r), 0.166666672f);
  p = __fadd_rn(__fmul_rn(p, r), 0.5f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  return x < -87.0f ? 0.0f : __fmul_rn(p, __int_as_float((n + 127) << 23));
}

// The sum over the lanes of a warp, in an order that does not change.
__device__ __forceinline__ float lane_sum(float x) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, apart));
  }
  return x;
}

// The experts of one token: lane l < kTopK learns the l-th best and its weight.
__device__ __forceinline__ void choose(const Logit* row, int& expert, float& weight) {
  const int lane = threadIdx.x % 32;

  // Logits: lane l has experts l, l + 32, ...; NaN counts as minus infinity.
  float logit[kLaneExperts];
  bool lost = false;
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    const int at = lane + 32 * i;
    logit[i] = at < kExperts ? widen_f32(row[at]) : minus_infinity();
    lost |= logit[i] != logit[i];
    logit[i] = logit[i] != logit[i] ? minus_infinity() : logit[i];
  }

  // Ranks: what the choice goes by.
  unsigned ranks[kLaneExperts];
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    const int at = lane + 32 * i;
    ranks[i] = at < kExperts ? rank_of(logit[i]) : kRemoved;
  }
  // The best expert that is left, kTopK times; of equals the first.
#pragma unroll 1
  for (int turn = 0; turn < kTopK; ++turn) {
    unsigned best = kRemoved;
#pragma unroll
    for (int i = 0; i < kLaneExperts; ++i) best = max(best, ranks[i]);
    best = redux_max(best);
    unsigned first = kNowhere;
#pragma unroll
    for (int i = kLaneExperts - 1; i >= 0; --i) first = ranks[i] == best ? lane + 32 * i : first;
    first = redux_min(first);
#pragma unroll
    for (int i = 0; i < kLaneExperts; ++i) {
      ranks[i] = first == lane + 32 * i ? kRemoved : ranks[i];
    }
    expert = turn == lane ? first : expert;
  }

  // What the chosen expert is weighed by, from the lane that has it.
  float value = 0.0f;
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    const float there = __shfl_sync(0xffffffffu, logit[i], expert % 32);
    value = expert / 32 == i ? there : value;
  }

  // The softmax over all experts: powers of the distance to the largest logit, and their sum.
  unsigned highest = kRemoved;
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) highest = max(highest, rank_of(logit[i]));
  const float largest = score_of(redux_max(highest));
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    total = __fadd_rn(total, exponential(__fsub_rn(logit[i], largest)));
  }
  total = lane_sum(total);

  weight = __fdiv_rn(exponential(__fsub_rn(value, largest)), total);

  // A NaN among the logits shows in every weight.
  weight = __any_sync(0xffffffffu, lost) ? __uint_as_float(0x7fc00000u) : weight;
}

// How many tokens before this one have their bit set.
__device__ __forceinline__ int earlier(const unsigned* bits, int token) {
  int count = __popc(bits[token / 32] & ((1u << token % 32) - 1));
#pragma unroll 1
  for (int word = 0; word < token / 32; ++word) count += __popc(bits[word]);
  return count;
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtasPerSm)
    route_64_top6_softmax_score_f32(
        const Logit* __restrict__ logits,  // logits [tokens, kExperts]
        long long logits_stride,  // its row stride in elements
        int* __restrict__ experts,  // chosen experts [tokens, kTopK]
        float* __restrict__ weights,  // their weights [tokens, kTopK]
        int* __restrict__ offsets,  // first slot of each expert [kExperts + kShared + 1]
        int* __restrict__ selection,  // token of each slot [tokens * kChoices]
        float* __restrict__ scale,  // weight of each slot [tokens * kChoices]
        int* __restrict__ slots,  // slots of each token [tokens, kChoices]
        int tokens  // tokens
    ) {
  // One CTA has all tokens.
  const int first_token = 0;
  const int end_token = tokens;

  // Bit t of expert e: token first_token + t has chosen it. Nobody has chosen yet.
  extern __shared__ __align__(16) unsigned char shared[];
  unsigned* const bits = reinterpret_cast<unsigned*>(shared + kBits);
  int* const first_slot = reinterpret_cast<int*>(shared + kFirstSlot);
  const int words = (end_token - first_token + 31) / 32;
#pragma unroll 1
  for (int i = threadIdx.x; i < kExperts * words; i += kThreads) bits[i] = 0;

  // What was chosen is kept here, besides where the caller finds it.
  int* const kept_expert = reinterpret_cast<int*>(shared + kKeptExperts);
  float* const kept_weight = reinterpret_cast<float*>(shared + kKeptWeights);
  __syncthreads();

  // A warp chooses for a token.
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int token = first_token + threadIdx.x / 32; token < end_token; token += kWarps) {
    int expert = 0;
    float weight = 0.0f;
    choose(logits + token * logits_stride, expert, weight);
    if (lane < kTopK) {
      const int at = token * kTopK + lane;
      experts[at] = expert;
      weights[at] = weight;
      kept_expert[at] = expert;
      kept_weight[at] = weight;
      atomicOr(bits + expert * words + token / 32, 1u << token % 32);
    }
  }
  __syncthreads();

  // Tokens of each expert.
#pragma unroll 1
  for (int i = threadIdx.x; i < kExperts; i += kThreads) {
    int count = 0;
#pragma unroll 1
    for (int word = 0; word < words; ++word) count += __popc(bits[i * words + word]);
    first_slot[i] = count;
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
      if (at < kExperts) first_slot[at] = through - sum + here[i];
    }
  }
  __syncthreads();

  // Where experts begin; those that everyone shares follow the others.
#pragma unroll 1
  for (int i = threadIdx.x; i <= kExperts + kShared; i += kThreads) {
    offsets[i] = i < kExperts ? first_slot[i] : (kTopK + i - kExperts) * tokens;
  }

  // Every choice takes its slot.
#pragma unroll 1
  for (int at = first_token * kTopK + threadIdx.x; at < end_token * kTopK; at += kThreads) {
    const int token = at / kTopK;
    const int expert = kept_expert[at];
    const int slot = first_slot[expert] + earlier(bits + expert * words, token - first_token);
    selection[slot] = token;
    scale[slot] = kept_weight[at];
    slots[token * kChoices + at % kTopK] = slot;
  }
}
