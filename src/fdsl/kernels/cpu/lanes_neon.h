// Four lanes of NEON, on 64-bit Arm.
#pragma once

#include <arm_neon.h>

#include "cpu/spread.h"
#include "shared/noise.h"
#include "shared/platform.h"

namespace fdsl {

struct Neon {
  static constexpr int WIDTH = 4;
  static constexpr int GROUPS = 4;  // side by side, to hide the latency of each
  using Float = float32x4_t;
  using Int = uint32x4_t;
  using Mask = uint32x4_t;
  using Index = uint8x16_t;  // byte positions of the picked values: table look-ups are by byte

  struct Table {
    uint8x16x2_t value;
    explicit FDSL_MEMBER Table(const float* v)
        : value{{vreinterpretq_u8_f32(vld1q_f32(v)), vreinterpretq_u8_f32(vld1q_f32(v + 4))}} {}
    FDSL_MEMBER Float operator[](Index i) const { return vreinterpretq_f32_u8(vqtbl2q_u8(value, i)); }
  };
  struct IntTable {
    uint8x16x2_t value;
    explicit FDSL_MEMBER IntTable(const int32_t* v)
        : value{{vreinterpretq_u8_s32(vld1q_s32(v)), vreinterpretq_u8_s32(vld1q_s32(v + 4))}} {}
    FDSL_MEMBER int32x4_t operator[](Index i) const { return vreinterpretq_s32_u8(vqtbl2q_u8(value, i)); }
  };

  static FDSL_MEMBER Float set(float v) { return vdupq_n_f32(v); }
  static FDSL_MEMBER Int set(int32_t v) { return vreinterpretq_u32_s32(vdupq_n_s32(v)); }
  static FDSL_MEMBER Int load(const uint32_t* v) { return vld1q_u32(v); }
  static FDSL_MEMBER Float load(const float* v) { return vld1q_f32(v); }
  static FDSL_MEMBER void store(uint32_t* to, Int v) { vst1q_u32(to, v); }
  static FDSL_MEMBER void store(float* to, Float v) { vst1q_f32(to, v); }
  // x0 y0 z0 x1 y1 z1 ... of a whole register each.
  static FDSL_MEMBER void store_points(float* to, Float x, Float y, Float z) { vst3q_f32(to, {{x, y, z}}); }

  static FDSL_MEMBER Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static FDSL_MEMBER Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static FDSL_MEMBER Float subtract(Float a, Float b) { return vsubq_f32(a, b); }
  static FDSL_MEMBER Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
  static FDSL_MEMBER Float divide(Float a, Float b) { return vdivq_f32(a, b); }
  static FDSL_MEMBER Float floor(Float a) { return vrndmq_f32(a); }
  // NEON's own minimum and maximum hand a NaN on; a comparison and a selection do not.
  static FDSL_MEMBER Float minimum(Float a, Float b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static FDSL_MEMBER Float maximum(Float a, Float b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static FDSL_MEMBER Float minimum_where(Mask where, Float a, Float b) {
    return vbslq_f32(vandq_u32(where, vcltq_f32(a, b)), a, b);
  }
  static FDSL_MEMBER Float maximum_where(Mask where, Float a, Float b) {
    return vbslq_f32(vandq_u32(where, vcgtq_f32(a, b)), a, b);
  }
  static FDSL_MEMBER Float add_where(Mask where, Float a, Float b) { return vbslq_f32(where, vaddq_f32(a, b), b); }
  static FDSL_MEMBER Int truncate(Float a) { return vreinterpretq_u32_s32(vcvtq_s32_f32(a)); }
  static FDSL_MEMBER Float to_float(Int a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }

  static FDSL_MEMBER Int add(Int a, Int b) { return vaddq_u32(a, b); }
  static FDSL_MEMBER Int subtract(Int a, Int b) { return vsubq_u32(a, b); }
  static FDSL_MEMBER Int multiply(Int a, Int b) { return vmulq_u32(a, b); }
  static FDSL_MEMBER Int minimum(Int a, Int b) {
    return vreinterpretq_u32_s32(vminq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
  }
  static FDSL_MEMBER Int maximum(Int a, Int b) {
    return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
  }
  // The high half of the product of unsigned numbers.
  static FDSL_MEMBER Int multiply_high(Int a, Int b) {
    const uint64x2_t low = vmull_u32(vget_low_u32(a), vget_low_u32(b)), high = vmull_high_u32(a, b);
    return vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high));
  }
  static FDSL_MEMBER Int absolute(Int a) { return vreinterpretq_u32_s32(vabsq_s32(vreinterpretq_s32_u32(a))); }
  static FDSL_MEMBER Int bit_and(Int a, Int b) { return vandq_u32(a, b); }
  static FDSL_MEMBER Int bit_or(Int a, Int b) { return vorrq_u32(a, b); }
  static FDSL_MEMBER Int bit_xor(Int a, Int b) { return veorq_u32(a, b); }
  template <int N>
  static FDSL_MEMBER Int shift_left(Int a) {
    return vshlq_n_u32(a, N);
  }
  template <int N>
  static FDSL_MEMBER Int shift_right(Int a) {
    return vshrq_n_u32(a, N);
  }

  static FDSL_MEMBER Mask at_least(Float a, Float b) { return vcgeq_f32(a, b); }
  static FDSL_MEMBER Mask between(Float low, Float a, Float high) {
    return vandq_u32(vcgeq_f32(a, low), vcleq_f32(a, high));
  }
  static FDSL_MEMBER Mask negative(Int a) { return vcltzq_s32(vreinterpretq_s32_u32(a)); }
  // Of unsigned numbers.
  static FDSL_MEMBER Mask below(Int a, Int b) { return vcltq_u32(a, b); }
  static FDSL_MEMBER Mask both(Mask a, Mask b) { return vandq_u32(a, b); }
  static FDSL_MEMBER Int select(Mask where, Int a, Int b) { return vbslq_u32(where, a, b); }
  static FDSL_MEMBER uint32_t bits(Mask a) {
    const uint32_t lanes[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(a, vld1q_u32(lanes)));
  }
  // The lanes named, one after the other; returns their number. Up to WIDTH words are written.
  static FDSL_MEMBER uint32_t compress(Mask where, Int a, uint32_t* to) {
    uint32_t value[WIDTH], count = 0;
    store(value, a);
    for (uint32_t left = bits(where); left; left &= left - 1) to[count++] = value[__builtin_ctz(left)];
    return count;
  }

  static FDSL_MEMBER Index positions(Int slot) {
    return vreinterpretq_u8_u32(vaddq_u32(vmulq_u32(slot, vdupq_n_u32(0x04040404u)), vdupq_n_u32(0x03020100u)));
  }
  // The lowest three bits, for a Table.
  static FDSL_MEMBER Index index(Int a) { return positions(vandq_u32(a, vdupq_n_u32(7u))); }
  static FDSL_MEMBER Index pick(Int r, const IntTable& threshold, const IntTable& alias) {
    const uint32x4_t slot = vandq_u32(r, vdupq_n_u32(7u));
    const Index at = positions(slot);
    const uint32x4_t own = vcltq_s32(vreinterpretq_s32_u32(r), threshold[at]);
    return positions(vbslq_u32(own, slot, vreinterpretq_u32_s32(alias[at])));
  }
  static FDSL_MEMBER uint64_t gather(const uint8_t* from) { return gather_bits(from); }
  static FDSL_MEMBER void spread(uint64_t bits, uint8_t value, uint8_t* to) { spread_bits(bits, value, to); }
  static FDSL_MEMBER void stream(uint64_t bits, uint8_t value, uint8_t* to) { spread_bits(bits, value, to); }
  static FDSL_MEMBER void finish_streams() {}

  // Slopes of lattice points modulo 256.
  struct Slopes {
    FDSL_MEMBER Float operator[](Int point) const {
      uint32_t i[WIDTH];
      store(i, vandq_u32(point, vdupq_n_u32(255u)));
      const float* slope = LATTICE_SLOPES.slope;
      const float picked[WIDTH] = {slope[i[0]], slope[i[1]], slope[i[2]], slope[i[3]]};
      return vld1q_f32(picked);
    }
  };
};

}  // namespace fdsl
