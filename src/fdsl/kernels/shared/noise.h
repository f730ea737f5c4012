// Perlin's improved noise in one dimension, as `pnoise1` of the Python package noise 1.2.2 has it (Perlin, Improving
// Noise, 2002). There a lattice point's slope is 1 + (h & 7), or -1 where h & 8, and the sum is scaled by 0.4.
#pragma once

#include "platform.h"

namespace fdsl {

// Perlin's permutation: h of a lattice point, whose number counts modulo 256.
constexpr uint8_t PERMUTATION[256] = {
    151, 160, 137, 91,  90,  15,  131, 13,  201, 95,  96,  53,  194, 233, 7,   225, 140, 36,  103, 30,  69,  142,
    8,   99,  37,  240, 21,  10,  23,  190, 6,   148, 247, 120, 234, 75,  0,   26,  197, 62,  94,  252, 219, 203,
    117, 35,  11,  32,  57,  177, 33,  88,  237, 149, 56,  87,  174, 20,  125, 136, 171, 168, 68,  175, 74,  165,
    71,  134, 139, 48,  27,  166, 77,  146, 158, 231, 83,  111, 229, 122, 60,  211, 133, 230, 220, 105, 92,  41,
    55,  46,  245, 40,  244, 102, 143, 54,  65,  25,  63,  161, 1,   216, 80,  73,  209, 76,  132, 187, 208, 89,
    18,  169, 200, 196, 135, 130, 116, 188, 159, 86,  164, 100, 109, 198, 173, 186, 3,   64,  52,  217, 226, 250,
    124, 123, 5,   202, 38,  147, 118, 126, 255, 82,  85,  212, 207, 206, 59,  227, 47,  16,  58,  17,  182, 189,
    28,  42,  223, 183, 170, 213, 119, 248, 152, 2,   44,  154, 163, 70,  221, 153, 101, 155, 167, 43,  172, 9,
    129, 22,  39,  253, 19,  98,  108, 110, 79,  113, 224, 232, 178, 185, 112, 104, 218, 246, 97,  228, 251, 34,
    242, 193, 238, 210, 144, 12,  191, 179, 162, 241, 81,  51,  145, 235, 249, 14,  239, 107, 49,  192, 214, 31,
    181, 199, 106, 157, 184, 84,  204, 176, 115, 121, 50,  45,  127, 4,   150, 254, 138, 236, 205, 93,  222, 114,
    67,  29,  24,  72,  243, 141, 128, 195, 78,  66,  215, 61,  156, 180};

// Slopes of the lattice points, as numbers, and as h & 15 in eight nibbles a word.
struct LatticeSlopes {
  float slope[256] = {};
  uint32_t nibbles[32] = {};
  float slope_of_nibble[16] = {};

  FDSL_MEMBER constexpr LatticeSlopes() {
    for (int h = 0; h < 16; ++h) slope_of_nibble[h] = h & 8 ? -1.0f : 1.0f + (h & 7);
    for (int i = 0; i < 256; ++i) {
      slope[i] = slope_of_nibble[PERMUTATION[i] & 15];
      nibbles[i / 8] |= (PERMUTATION[i] & 15u) << i % 8 * 4;
    }
  }
};
FDSL_TABLE LatticeSlopes LATTICE_SLOPES;

constexpr int32_t NOISE_RANGE = 10'000;
constexpr double NOISE_SCALE = 0.4;

// pnoise1 / NOISE_SCALE at a place that a random word picks uniformly in [0, NOISE_RANGE): of word * NOISE_RANGE the
// high 32 bits are the lattice cell, and the first 24 of the low ones the way through it.
template <class V>
FDSL_INLINE typename V::Float noise_at(typename V::Int word, const typename V::Slopes& slopes) {
  using Float = typename V::Float;
  const typename V::Int range = V::set(NOISE_RANGE), cell = V::multiply_high(word, range);
  const Float t = V::multiply(V::to_float(V::template shift_right<8>(V::multiply(word, range))), V::set(0x1p-24f));
  const Float first = slopes[cell], second = slopes[V::add(cell, V::set(int32_t{1}))];
  const Float fade =
      V::multiply(V::multiply(V::multiply(t, t), t), V::fma(t, V::fma(t, V::set(6.0f), V::set(-15.0f)), V::set(10.0f)));
  const Float before = V::multiply(first, t), after = V::multiply(second, V::subtract(t, V::set(1.0f)));
  return V::fma(fade, V::subtract(after, before), before);
}

}  // namespace fdsl
