// Gradient noise in the plane (Perlin, Improving Noise, SIGGRAPH 2002), over any lane type.
//
// Every point of the integer lattice has one of eight unit gradients, an eighth of a turn apart, which a keyed hash of
// its coordinates picks: no permutation table, no period. The value at a point is what the four gradients around it
// say, blended by the quintic 6t^5 - 15t^4 + 10t^3; it lies within sqrt(1/2) of zero.
#pragma once

#include "picture.h"

namespace fdsl {

// The noise of one picture: where its pixels lie on the lattice, and what keys its gradients.
struct PerlinNoise {
  // Lattice coordinates x, y of the pixel at (column, row): by column, by row, and at (0, 0).
  float x[3], y[3];
  uint32_t salt_x, salt_y;
  float gradient_x[8], gradient_y[8];
};
constexpr float ROOT_HALF = 0.707106781f;

// `fx` and `fy` lattice cells fill the picture's width and height, from an offset that the instance draws.
FDSL_INLINE PerlinNoise perlin_noise(const Spec& spec, const Key& it, const Placement& placement, int fx, int fy) {
  const Words r = keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_INSTANCE, 0, 0);
  const Placement& p = placement;
  // The way back, from pixels to the unit square.
  const double determinant = p.m00 * p.m11 - p.m01 * p.m10, t0 = p.t0 - MARGIN, t1 = p.t1 - MARGIN;
  const double sx = fx / determinant, sy = fy / determinant;
  PerlinNoise noise;
  noise.x[0] = static_cast<float>(sx * p.m11);
  noise.x[1] = static_cast<float>(-(sx * p.m01));
  noise.x[2] = static_cast<float>(sx * (p.m01 * t1 - p.m11 * t0) + unit(r.word[0]));
  noise.y[0] = static_cast<float>(-(sy * p.m10));
  noise.y[1] = static_cast<float>(sy * p.m00);
  noise.y[2] = static_cast<float>(sy * (p.m10 * t0 - p.m00 * t1) + unit(r.word[1]));
  noise.salt_x = r.word[2];
  noise.salt_y = r.word[3];
  const float cosines[3] = {1.0f, ROOT_HALF, 0.0f};
  for (int k = 0; k < 8; ++k) {
    noise.gradient_x[k] = k <= 2 ? cosines[k] : k <= 4 ? -cosines[4 - k] : k <= 6 ? -cosines[k - 4] : cosines[8 - k];
    noise.gradient_y[(k + 2) % 8] = noise.gradient_x[k];
  }
  return noise;
}

// Bound by the vector ports: about 80 operations for a register of pixels, 24 of them in the hashes of four corners.
template <class V>
struct PerlinLattice {
  using Float = typename V::Float;
  using Int = typename V::Int;
  typename V::Table gradient_x, gradient_y;
  Int salt_x, salt_y;

  explicit FDSL_MEMBER PerlinLattice(const PerlinNoise& noise)
      : gradient_x(noise.gradient_x),
        gradient_y(noise.gradient_y),
        salt_x(V::set(static_cast<int32_t>(noise.salt_x))),
        salt_y(V::set(static_cast<int32_t>(noise.salt_y))) {}

  // What the gradient of a lattice point says of the point (x, y) away from it.
  FDSL_MEMBER Float corner(Int column, Int row, Float x, Float y) const {
    Int h = V::multiply(V::bit_xor(column, row), V::set(static_cast<int32_t>(0x85EBCA6Bu)));
    h = V::multiply(V::bit_xor(h, V::template shift_right<15>(h)), V::set(static_cast<int32_t>(0xC2B2AE35u)));
    const typename V::Index which = V::index(V::template shift_right<29>(h));
    return V::fma(gradient_x[which], x, V::multiply(gradient_y[which], y));
  }

  static FDSL_MEMBER Float fade(Float t) {
    return V::multiply(V::multiply(V::multiply(t, t), t),
                       V::fma(t, V::fma(t, V::set(6.0f), V::set(-15.0f)), V::set(10.0f)));
  }

  // The value at lattice coordinates. No picture reaches 2^20 of them, and no NaN or infinity gets past that.
  FDSL_MEMBER Float at(Float x, Float y) const {
    x = V::minimum(V::maximum(x, V::set(-0x1p20f)), V::set(0x1p20f));
    y = V::minimum(V::maximum(y, V::set(-0x1p20f)), V::set(0x1p20f));
    const Float whole_x = V::floor(x), whole_y = V::floor(y), one = V::set(1.0f);
    const Int prime_x = V::set(static_cast<int32_t>(0x9E3779B1u)), prime_y = V::set(static_cast<int32_t>(0x85EBCA77u));
    const Int left = V::add(V::multiply(V::truncate(whole_x), prime_x), salt_x), right = V::add(left, prime_x);
    const Int top = V::add(V::multiply(V::truncate(whole_y), prime_y), salt_y), bottom = V::add(top, prime_y);
    x = V::subtract(x, whole_x);
    y = V::subtract(y, whole_y);
    const Float x1 = V::subtract(x, one), y1 = V::subtract(y, one);
    const Float a = corner(left, top, x, y), b = corner(right, top, x1, y);
    const Float c = corner(left, bottom, x, y1), d = corner(right, bottom, x1, y1);
    const Float across = fade(x), upper = V::fma(across, V::subtract(b, a), a);
    const Float lower = V::fma(across, V::subtract(d, c), c);
    return V::fma(fade(y), V::subtract(lower, upper), upper);
  }

  // Zero is gray 128; the farthest values are 0 and 255.
  FDSL_MEMBER Int level(Float x, Float y) const {
    const Float scaled = V::fma(at(x, y), V::set(127.5f / ROOT_HALF), V::set(128.0f));
    return V::truncate(V::minimum(V::maximum(scaled, V::set(0.0f)), V::set(255.0f)));
  }
};

}  // namespace fdsl
