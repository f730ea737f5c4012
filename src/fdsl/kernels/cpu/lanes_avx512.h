// Sixteen lanes of AVX-512.
#pragma once

#include <immintrin.h>

#include "shared/noise.h"
#include "shared/platform.h"

namespace fdsl {

struct Avx512 {
  static constexpr int WIDTH = 16;
  static constexpr int GROUPS = 8;  // side by side, to hide the latency of each
  using Float = __m512;
  using Int = __m512i;
  using Index = __m512i;
  using Mask = __mmask16;

  struct Table {
    __m512 value;  // eight values, twice
    explicit FDSL_MEMBER Table(const float* v)
        : value(_mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_loadu_ps(v))))) {}
    FDSL_MEMBER Float operator[](Index i) const { return _mm512_permutexvar_ps(i, value); }
  };
  struct IntTable {
    __m512i value;
    explicit FDSL_MEMBER IntTable(const int32_t* v)
        : value(_mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)))) {}
  };

  static FDSL_MEMBER Float set(float v) { return _mm512_set1_ps(v); }
  static FDSL_MEMBER Int set(int32_t v) { return _mm512_set1_epi32(v); }
  static FDSL_MEMBER Int load(const uint32_t* v) { return _mm512_loadu_si512(v); }
  static FDSL_MEMBER Float load(const float* v) { return _mm512_loadu_ps(v); }
  static FDSL_MEMBER void store(uint32_t* to, Int v) { _mm512_storeu_si512(to, v); }
  static FDSL_MEMBER void store(float* to, Float v) { _mm512_storeu_ps(to, v); }
  // x0 y0 z0 x1 y1 z1 ... of a whole register each.
  static FDSL_MEMBER void store_points(float* to, Float x, Float y, Float z) {
    const __m512i first = _mm512_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5);
    const __m512i second = _mm512_setr_epi32(5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10);
    const __m512i third = _mm512_setr_epi32(10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15);
    // Every third lane, from lane 0, 1 and 2 on.
    constexpr __mmask16 from0 = 0x9249, from1 = 0x2492, from2 = 0x4924;
    const auto merge = [&](__m512i lanes, __mmask16 of_y, __mmask16 of_z) __attribute__((always_inline)) {
      const __m512 xy = _mm512_mask_permutexvar_ps(_mm512_permutexvar_ps(lanes, x), of_y, lanes, y);
      return _mm512_mask_permutexvar_ps(xy, of_z, lanes, z);
    };
    _mm512_storeu_ps(to, merge(first, from1, from2));
    _mm512_storeu_ps(to + 16, merge(second, from0, from1));
    _mm512_storeu_ps(to + 32, merge(third, from2, from0));
  }

  static FDSL_MEMBER Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static FDSL_MEMBER Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static FDSL_MEMBER Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static FDSL_MEMBER Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static FDSL_MEMBER Float divide(Float a, Float b) { return _mm512_div_ps(a, b); }
  static FDSL_MEMBER Float floor(Float a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  static FDSL_MEMBER Float minimum(Float a, Float b) { return _mm512_min_ps(a, b); }
  static FDSL_MEMBER Float maximum(Float a, Float b) { return _mm512_max_ps(a, b); }
  static FDSL_MEMBER Float minimum_where(Mask where, Float a, Float b) { return _mm512_mask_min_ps(b, where, a, b); }
  static FDSL_MEMBER Float maximum_where(Mask where, Float a, Float b) { return _mm512_mask_max_ps(b, where, a, b); }
  static FDSL_MEMBER Float add_where(Mask where, Float a, Float b) { return _mm512_mask_add_ps(b, where, a, b); }
  static FDSL_MEMBER Int truncate(Float a) { return _mm512_cvttps_epi32(a); }
  static FDSL_MEMBER Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }

  static FDSL_MEMBER Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static FDSL_MEMBER Int subtract(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static FDSL_MEMBER Int multiply(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  static FDSL_MEMBER Int minimum(Int a, Int b) { return _mm512_min_epi32(a, b); }
  static FDSL_MEMBER Int maximum(Int a, Int b) { return _mm512_max_epi32(a, b); }
  // The high half of the product of unsigned numbers.
  static FDSL_MEMBER Int multiply_high(Int a, Int b) {
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(a, b), 32);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    return _mm512_mask_blend_epi32(0xAAAA, even, odd);
  }
  static FDSL_MEMBER Int absolute(Int a) { return _mm512_abs_epi32(a); }
  static FDSL_MEMBER Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
  static FDSL_MEMBER Int bit_or(Int a, Int b) { return _mm512_or_si512(a, b); }
  static FDSL_MEMBER Int bit_xor(Int a, Int b) { return _mm512_xor_si512(a, b); }
  template <int N>
  static FDSL_MEMBER Int shift_left(Int a) {
    return _mm512_slli_epi32(a, N);
  }
  template <int N>
  static FDSL_MEMBER Int shift_right(Int a) {
    return _mm512_srli_epi32(a, N);
  }

  static FDSL_MEMBER Mask at_least(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static FDSL_MEMBER Mask between(Float low, Float a, Float high) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a, low, _CMP_GE_OQ), a, high, _CMP_LE_OQ);
  }
  static FDSL_MEMBER Mask negative(Int a) { return _mm512_movepi32_mask(a); }
  // Of unsigned numbers.
  static FDSL_MEMBER Mask below(Int a, Int b) { return _mm512_cmplt_epu32_mask(a, b); }
  static FDSL_MEMBER Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
  static FDSL_MEMBER Int select(Mask where, Int a, Int b) { return _mm512_mask_blend_epi32(where, b, a); }
  static FDSL_MEMBER uint32_t bits(Mask a) { return a; }
  // The lanes named, one after the other; returns their number. Up to WIDTH words are written.
  static FDSL_MEMBER uint32_t compress(Mask where, Int a, uint32_t* to) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(where, a));
    return __builtin_popcount(where);
  }

  // The lowest three bits, for a Table.
  static FDSL_MEMBER Index index(Int a) { return a; }
  static FDSL_MEMBER Index pick(Int r, const IntTable& threshold, const IntTable& alias) {
    const __mmask16 other = _mm512_cmpge_epi32_mask(r, _mm512_permutexvar_epi32(r, threshold.value));
    return _mm512_mask_permutexvar_epi32(r, other, r, alias.value);
  }
  // 64 bytes to 64 bits: which are not zero.
  static FDSL_MEMBER uint64_t gather(const uint8_t* from) {
    const __m512i bytes = _mm512_loadu_si512(from);
    return _mm512_test_epi8_mask(bytes, bytes);
  }
  // 64 bits to 64 bytes of 0 or `value`.
  static FDSL_MEMBER void spread(uint64_t bits, uint8_t value, uint8_t* to) {
    _mm512_storeu_si512(to, _mm512_maskz_set1_epi8(bits, static_cast<char>(value)));
  }
  // The same past the caches, to a cache line.
  static FDSL_MEMBER void stream(uint64_t bits, uint8_t value, uint8_t* to) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_maskz_set1_epi8(bits, static_cast<char>(value)));
  }
  static FDSL_MEMBER void finish_streams() { _mm_sfence(); }

  // Slopes of lattice points modulo 256, picked from registers: a nibble of 32 words, then a number of 16.
  struct Slopes {
    __m512i low, high;
    __m512 slope;
    FDSL_MEMBER Slopes()
        : low(_mm512_loadu_si512(LATTICE_SLOPES.nibbles)),
          high(_mm512_loadu_si512(LATTICE_SLOPES.nibbles + 16)),
          slope(_mm512_loadu_ps(LATTICE_SLOPES.slope_of_nibble)) {}
    FDSL_MEMBER Float operator[](Int point) const {
      const __m512i word = _mm512_permutex2var_epi32(low, _mm512_srli_epi32(point, 3), high);
      const __m512i bit = _mm512_and_si512(_mm512_slli_epi32(point, 2), _mm512_set1_epi32(28));
      return _mm512_permutexvar_ps(_mm512_srlv_epi32(word, bit), slope);
    }
  };
};

}  // namespace fdsl
