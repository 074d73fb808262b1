// choose_256_top8_sigmoid_share_groups8_4_top2_sum_bias_scaled_shared1_f32:
// every token chooses 8 of 256 experts, which are counted.
//
// Generated from templates/routing.cu.jinja for sm_80.
// Do not edit: run `samoyeds-gen emit`.

// Routing.
constexpr int kExperts = 256;  // experts to choose from
constexpr int kTopK = 8;  // experts a token chooses
// Choice.
constexpr int kLaneExperts = 8;  // experts a lane scores
constexpr int kRemoved = 0;  // rank of an expert that cannot be chosen
constexpr int kNowhere = 1024;  // above every expert
constexpr int kGroups = 8;  // groups of experts
constexpr int kGroupSize = 32;  // experts a group
constexpr int kTopGroups = 4;  // groups that are kept
// Threads.
constexpr int kThreads = 1024;  // threads a CTA
constexpr int kCtasPerSm = 1;  // resident CTAs the compiler makes room for
constexpr int kWarps = 32;  // tokens that are chosen for at a time
// Shared memory.
constexpr int kCount = 0;  // first byte of the counts of experts
typedef float Logit;  // float32
static_assert(kTopK <= kExperts, "a token chooses different experts");
static_assert(kThreads == 32 * kWarps, "a warp chooses for a token");
static_assert(kTopK <= 32, "a lane has a chosen expert");
static_assert(32 * kLaneExperts >= kExperts, "the lanes have all experts");
static_assert(kNowhere >= 32 * kLaneExperts, "no expert is nowhere");
static_assert(kGroups <= 32 && kGroups * kGroupSize == kExperts, "a lane has a group");
static_assert(kTopGroups * kGroupSize >= kTopK, "kept groups have enough experts");
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

// 1 / (1 + e to the -x), without overflow on either side.
__device__ __forceinline__ float sigmoid(float x) {
  const float power = exponential(-fabsf(x));
  return __fdiv_rn(x < 0.0f ? power : 1.0f, __fadd_rn(1.0f, power));
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
__device__ __forceinline__ void choose(const Logit* row, const float* bias, int& expert, float& weight) {
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
  // Scores.
  float score[kLaneExperts];
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) score[i] = sigmoid(logit[i]);

  // Ranks: what the choice goes by.
  unsigned ranks[kLaneExperts];
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    const int at = lane + 32 * i;
    ranks[i] = at < kExperts ? rank_of(__fadd_rn(score[i], bias[at])) : kRemoved;
  }
  // Groups: lane g learns the score of group g.
  unsigned group_rank = kRemoved;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    unsigned best = kRemoved;
#pragma unroll
    for (int i = 0; i < kLaneExperts; ++i) {
      best = max(best, (lane + 32 * i) / kGroupSize == group ? ranks[i] : kRemoved);
    }
    best = redux_max(best);
    // The second best is the best of the others.
    unsigned first = kNowhere;
#pragma unroll
    for (int i = kLaneExperts - 1; i >= 0; --i) {
      const bool member = (lane + 32 * i) / kGroupSize == group;
      first = member && ranks[i] == best ? lane + 32 * i : first;
    }
    first = redux_min(first);
    unsigned second = kRemoved;
#pragma unroll
    for (int i = 0; i < kLaneExperts; ++i) {
      const bool other = (lane + 32 * i) / kGroupSize == group && first != lane + 32 * i;
      second = max(second, other ? ranks[i] : kRemoved);
    }
    best = rank_of(__fadd_rn(score_of(best), score_of(redux_max(second))));

    group_rank = lane == group ? best : group_rank;
  }
  // The best groups are kept, of equals the first; the experts of others are removed.
  unsigned kept = 0;
#pragma unroll 1
  for (int turn = 0; turn < kTopGroups; ++turn) {
    const unsigned best = redux_max(group_rank);
    const int group = __ffs(__ballot_sync(0xffffffffu, group_rank == best)) - 1;
    kept |= 1u << group;
    group_rank = lane == group ? kRemoved : group_rank;
  }
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    ranks[i] = kept >> (lane + 32 * i) / kGroupSize % 32 & 1 ? ranks[i] : kRemoved;
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
    const float there = __shfl_sync(0xffffffffu, score[i], expert % 32);
    value = expert / 32 == i ? there : value;
  }

  // Weights: the scores of the chosen, over their sum.
  const float sum = lane_sum(lane < kTopK ? value : 0.0f);
  weight = __fdiv_rn(value, __fadd_rn(sum, 1e-20f));

  weight = __fmul_rn(weight, 2.500000000e+00f);
  // A NaN among the logits shows in every weight.
  weight = __any_sync(0xffffffffu, lost) ? __uint_as_float(0x7fc00000u) : weight;
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtasPerSm)
    choose_256_top8_sigmoid_share_groups8_4_top2_sum_bias_scaled_shared1_f32(
        const Logit* __restrict__ logits,  // logits [tokens, kExperts]
        long long logits_stride,  // its row stride in elements
        const float* __restrict__ bias,  // added to scores in the choice [kExperts]
        int* __restrict__ experts,  // chosen experts [tokens, kTopK]
        float* __restrict__ weights,  // their weights [tokens, kTopK]
        int* __restrict__ counts,  // tokens of each chunk and expert [chunks, kExperts]
        int tokens,  // tokens
        int chunk  // tokens a CTA takes, whole words of bits
    ) {
  // Each CTA has a chunk of the tokens, 32 or a multiple.
  const int first_token = blockIdx.x * chunk;
  const int end_token = min(first_token + chunk, tokens);

  // Tokens of this chunk that chose each expert: none yet.
  extern __shared__ __align__(16) unsigned char shared[];
  int* const count = reinterpret_cast<int*>(shared + kCount);
#pragma unroll 1
  for (int i = threadIdx.x; i < kExperts; i += kThreads) count[i] = 0;
  __syncthreads();

  // A warp chooses for a token.
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int token = first_token + threadIdx.x / 32; token < end_token; token += kWarps) {
    int expert = 0;
    float weight = 0.0f;
    choose(logits + token * logits_stride, bias, expert, weight);
    if (lane < kTopK) {
      const int at = token * kTopK + lane;
      experts[at] = expert;
      weights[at] = weight;
      atomicAdd(count + expert, 1);
    }
  }
  __syncthreads();

  // The counts of this chunk.
#pragma unroll 1
  for (int i = threadIdx.x; i < kExperts; i += kThreads) {
    counts[blockIdx.x * kExperts + i] = count[i];
  }
}
