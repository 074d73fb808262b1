// combine_9_bf16_16b_weighted:
// out[t, :] is the sum of scale[slots[t, j]] * y[slots[t, j], :] over j, in float32 and in order.
//
// Generated from templates/routing.cu.jinja for sm_80.
// Do not edit: run `samoyeds-gen emit`.

// Combination.
constexpr int kChoices = 9;  // rows a token adds up
constexpr int kElements = 8;  // elements a piece
constexpr int kPieces = 1;  // pieces a thread
constexpr int kBatch = 9;  // rows whose loads are in flight together
constexpr int kThreads = 128;  // threads a CTA
constexpr int kCtasPerSm = 8;  // resident CTAs the compiler makes room for
typedef unsigned short Element;  // one bfloat16
typedef uint4 Whole;  // 16 bytes
static_assert(sizeof(Whole) == kElements * sizeof(Element), "a piece is one load");
static_assert(kBatch <= kChoices, "a batch has rows to add");
// The value of a bfloat16.
__device__ __forceinline__ float widen_bf16(unsigned short bits) {
  return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

// Round to the nearest bfloat16, ties to even.
__device__ __forceinline__ Element narrow(float x) {
  Element bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

// What a thread loads and stores at a time.
union Piece {
  Whole whole;
  Element each[kElements];
};

extern "C" __global__ void __launch_bounds__(kThreads, kCtasPerSm)
    combine_9_bf16_16b_weighted(
        const Element* __restrict__ y,  // rows that experts computed [slots, columns]
        const int* __restrict__ slots,  // rows of each token [tokens, kChoices]
        const float* __restrict__ scale,  // weight of each row of y [slots]
        Element* __restrict__ out,  // sums [tokens, columns]
        long long y_stride,  // row stride of y in elements
        long long out_stride,  // row stride of out in elements
        int pieces,  // pieces a row
        int tokens  // tokens
    ) {
  // A thread has kPieces pieces of one token, as far apart as there are threads for the token.
  const int turns = (pieces + kPieces - 1) / kPieces;
  const int place = blockIdx.x * kThreads + threadIdx.x;
  const int token = place / turns;
  const int first = place % turns;
  if (token >= tokens) return;

  // Rows are added in the order of the choices; loads of kBatch rows are in flight together. Sums
  // begin at minus zero, which leaves the first row as it is.
  float sum[kPieces][kElements];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) sum[p][e] = -0.0f;
  }
#pragma unroll 1
  for (int batch = 0; batch < kChoices; batch += kBatch) {
    Piece loaded[kBatch][kPieces];
    float weight[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (batch + j < kChoices) {
        const long long slot = slots[static_cast<long long>(token) * kChoices + batch + j];
        weight[j] = scale[slot];
        const Whole* const from = reinterpret_cast<const Whole*>(y + slot * y_stride);
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
          if (first + p * turns < pieces) loaded[j][p].whole = from[first + p * turns];
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (batch + j < kChoices) {
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
#pragma unroll
          for (int e = 0; e < kElements; ++e) {
            sum[p][e] = __fadd_rn(sum[p][e], __fmul_rn(weight[j], widen_bf16(loaded[j][p].each[e])));
          }
        }
      }
    }
  }

  // One rounding.
  Whole* const to = reinterpret_cast<Whole*>(out + token * out_stride);
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    Piece result;
#pragma unroll
    for (int e = 0; e < kElements; ++e) result.each[e] = narrow(sum[p][e]);
    if (first + p * turns < pieces) to[first + p * turns] = result.whole;
  }
}
