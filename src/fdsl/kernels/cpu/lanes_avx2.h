// Eight lanes of AVX2 and FMA.
#pragma once

#include <immintrin.h>

#include "shared/noise.h"
#include "shared/platform.h"

namespace fdsl {

// The lanes that eight bits name, one after the other.
struct NamedLanes {
  uint8_t order[256][8] = {};

  constexpr NamedLanes() {
    for (int bits = 0; bits < 256; ++bits)
      for (int lane = 0, place = 0; lane < 8; ++lane)
        if (bits >> lane & 1) order[bits][place++] = static_cast<uint8_t>(lane);
  }
};
constexpr NamedLanes NAMED_LANES;

struct Avx2 {
  static constexpr int WIDTH = 8;
  static constexpr int GROUPS = 4;  // side by side, to hide the latency of each
  using Float = __m256;
  using Int = __m256i;
  using Index = __m256i;
  using Mask = __m256;

  struct Table {
    __m256 value;
    explicit FDSL_MEMBER Table(const float* v) : value(_mm256_loadu_ps(v)) {}
    FDSL_MEMBER Float operator[](Index i) const { return _mm256_permutevar8x32_ps(value, i); }
  };
  struct IntTable {
    __m256i value;
    explicit FDSL_MEMBER IntTable(const int32_t* v) : value(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v))) {}
  };

  static FDSL_MEMBER Float set(float v) { return _mm256_set1_ps(v); }
  static FDSL_MEMBER Int set(int32_t v) { return _mm256_set1_epi32(v); }
  static FDSL_MEMBER Int load(const uint32_t* v) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)); }
  static FDSL_MEMBER Float load(const float* v) { return _mm256_loadu_ps(v); }
  static FDSL_MEMBER void store(uint32_t* to, Int v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
  static FDSL_MEMBER void store(float* to, Float v) { _mm256_storeu_ps(to, v); }
  // x0 y0 z0 x1 y1 z1 ... of a whole register each.
  static FDSL_MEMBER void store_points(float* to, Float x, Float y, Float z) {
    const __m256i first = _mm256_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2), second = _mm256_setr_epi32(2, 3, 3, 3, 4, 4, 4, 5);
    const __m256i third = _mm256_setr_epi32(5, 5, 6, 6, 6, 7, 7, 7);
    const auto pick = [](__m256 a, __m256i lanes)
                          __attribute__((always_inline)) { return _mm256_permutevar8x32_ps(a, lanes); };
    _mm256_storeu_ps(
        to, _mm256_blend_ps(_mm256_blend_ps(pick(x, first), pick(y, first), 0b10010010), pick(z, first), 0b00100100));
    _mm256_storeu_ps(to + 8, _mm256_blend_ps(_mm256_blend_ps(pick(x, second), pick(y, second), 0b00100100),
                                             pick(z, second), 0b01001001));
    _mm256_storeu_ps(to + 16, _mm256_blend_ps(_mm256_blend_ps(pick(x, third), pick(y, third), 0b01001001),
                                              pick(z, third), 0b10010010));
  }

  static FDSL_MEMBER Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static FDSL_MEMBER Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static FDSL_MEMBER Float subtract(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static FDSL_MEMBER Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static FDSL_MEMBER Float divide(Float a, Float b) { return _mm256_div_ps(a, b); }
  static FDSL_MEMBER Float floor(Float a) { return _mm256_floor_ps(a); }
  static FDSL_MEMBER Float minimum(Float a, Float b) { return _mm256_min_ps(a, b); }
  static FDSL_MEMBER Float maximum(Float a, Float b) { return _mm256_max_ps(a, b); }
  static FDSL_MEMBER Float minimum_where(Mask where, Float a, Float b) {
    return _mm256_blendv_ps(b, _mm256_min_ps(a, b), where);
  }
  static FDSL_MEMBER Float maximum_where(Mask where, Float a, Float b) {
    return _mm256_blendv_ps(b, _mm256_max_ps(a, b), where);
  }
  static FDSL_MEMBER Float add_where(Mask where, Float a, Float b) {
    return _mm256_blendv_ps(b, _mm256_add_ps(a, b), where);
  }
  static FDSL_MEMBER Int truncate(Float a) { return _mm256_cvttps_epi32(a); }
  static FDSL_MEMBER Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }

  static FDSL_MEMBER Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static FDSL_MEMBER Int subtract(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static FDSL_MEMBER Int multiply(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  static FDSL_MEMBER Int minimum(Int a, Int b) { return _mm256_min_epi32(a, b); }
  static FDSL_MEMBER Int maximum(Int a, Int b) { return _mm256_max_epi32(a, b); }
  // The high half of the product of unsigned numbers.
  static FDSL_MEMBER Int multiply_high(Int a, Int b) {
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(even, odd, 0xAA);
  }
  static FDSL_MEMBER Int absolute(Int a) { return _mm256_abs_epi32(a); }
  static FDSL_MEMBER Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
  static FDSL_MEMBER Int bit_or(Int a, Int b) { return _mm256_or_si256(a, b); }
  static FDSL_MEMBER Int bit_xor(Int a, Int b) { return _mm256_xor_si256(a, b); }
  template <int N>
  static FDSL_MEMBER Int shift_left(Int a) {
    return _mm256_slli_epi32(a, N);
  }
  template <int N>
  static FDSL_MEMBER Int shift_right(Int a) {
    return _mm256_srli_epi32(a, N);
  }

  static FDSL_MEMBER Mask at_least(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static FDSL_MEMBER Mask between(Float low, Float a, Float high) {
    return _mm256_and_ps(_mm256_cmp_ps(a, low, _CMP_GE_OQ), _mm256_cmp_ps(a, high, _CMP_LE_OQ));
  }
  // Of a mask only the sign bits count.
  static FDSL_MEMBER Mask negative(Int a) { return _mm256_castsi256_ps(a); }
  // Of unsigned numbers.
  static FDSL_MEMBER Mask below(Int a, Int b) {
    const __m256i lowest = _mm256_set1_epi32(INT32_MIN);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_xor_si256(b, lowest), _mm256_xor_si256(a, lowest)));
  }
  static FDSL_MEMBER Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
  static FDSL_MEMBER Int select(Mask where, Int a, Int b) {
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(b), _mm256_castsi256_ps(a), where));
  }
  static FDSL_MEMBER uint32_t bits(Mask a) { return _mm256_movemask_ps(a); }
  // The lanes named, one after the other; returns their number. Up to WIDTH words are written.
  static FDSL_MEMBER uint32_t compress(Mask where, Int a, uint32_t* to) {
    const uint32_t named = bits(where);
    const __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(NAMED_LANES.order[named]));
    store(to, _mm256_permutevar8x32_epi32(a, _mm256_cvtepu8_epi32(order)));
    return __builtin_popcount(named);
  }

  // The lowest three bits, for a Table.
  static FDSL_MEMBER Index index(Int a) { return a; }
  static FDSL_MEMBER Index pick(Int r, const IntTable& threshold, const IntTable& alias) {
    const __m256i own = _mm256_cmpgt_epi32(_mm256_permutevar8x32_epi32(threshold.value, r), r);
    return _mm256_blendv_epi8(_mm256_permutevar8x32_epi32(alias.value, r), r, own);
  }
  // 64 bytes to 64 bits: which are not zero.
  static FDSL_MEMBER uint64_t gather(const uint8_t* from) {
    const __m256i zero = _mm256_setzero_si256(), *bytes = reinterpret_cast<const __m256i*>(from);
    const uint32_t low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(bytes), zero));
    const uint32_t high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(bytes + 1), zero));
    return ~(low | static_cast<uint64_t>(high) << 32);
  }
  // Half a word of bits to 32 bytes of 0 or `value`.
  static FDSL_MEMBER __m256i spread_half(uint32_t bits, uint8_t value) {
    const __m256i copy =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ull));
    const __m256i word = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(bits)), copy);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(word, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
  }
  // 64 bits to 64 bytes of 0 or `value`.
  static FDSL_MEMBER void spread(uint64_t bits, uint8_t value, uint8_t* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), spread_half(static_cast<uint32_t>(bits), value));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to) + 1, spread_half(static_cast<uint32_t>(bits >> 32), value));
  }
  // The same past the caches, to a cache line.
  static FDSL_MEMBER void stream(uint64_t bits, uint8_t value, uint8_t* to) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), spread_half(static_cast<uint32_t>(bits), value));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to) + 1, spread_half(static_cast<uint32_t>(bits >> 32), value));
  }
  static FDSL_MEMBER void finish_streams() { _mm_sfence(); }

  // Slopes of lattice points modulo 256, picked from registers, because a gather may cost ten times as much (where the
  // processor guards it): a nibble of 32 words, then 1 to 8, or -1.
  struct Slopes {
    __m256i nibbles[4];
    __m256 rising;
    FDSL_MEMBER Slopes() : rising(_mm256_loadu_ps(LATTICE_SLOPES.slope_of_nibble)) {
      for (int i = 0; i < 4; ++i) nibbles[i] = load(LATTICE_SLOPES.nibbles + 8 * i);
    }
    FDSL_MEMBER Float operator[](Int point) const {
      const __m256i place = _mm256_srli_epi32(point, 3);
      __m256i word[4];
      for (int i = 0; i < 4; ++i) word[i] = _mm256_permutevar8x32_epi32(nibbles[i], place);
      const Mask odd = negative(_mm256_slli_epi32(point, 25)), upper = negative(_mm256_slli_epi32(point, 24));
      const __m256i picked = select(upper, select(odd, word[3], word[2]), select(odd, word[1], word[0]));
      const __m256i bit = _mm256_and_si256(_mm256_slli_epi32(point, 2), _mm256_set1_epi32(28));
      const __m256i nibble = _mm256_srlv_epi32(picked, bit);
      return _mm256_blendv_ps(_mm256_permutevar8x32_ps(rising, nibble), _mm256_set1_ps(-1.0f),
                              negative(_mm256_slli_epi32(nibble, 28)));
    }
  };
};

}  // namespace fdsl
