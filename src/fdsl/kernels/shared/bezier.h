// Bezier curves, over any lane type: the control points of a picture's curves, and the way from them to pixels.
// A GPU thread owns a point of a curve, then the piece that begins there; curves of several hues wait for each other.
#pragma once

#include "picture.h"

namespace fdsl {

constexpr int MAX_CONTROL_POINTS = 65;
// Straight pieces of a curve for each degree: what is left between them and the curve stays under 0.003 of the picture
// (second derivatives grow with the square of the degree, and so do the pieces' squares), 0.0002 as a rule.
constexpr int PIECES = 16;

// Points of a curve's polyline, rounded up to whole registers; those after the last repeat it.
FDSL_INLINE constexpr int bezier_points(int control_points) { return PIECES * control_points; }
// Where the weights of curves of so many control points start: those of fewer, from two on, come before.
FDSL_INLINE constexpr int64_t bezier_weights_start(int control_points) {
  const int64_t k = control_points;
  return PIECES * ((k - 1) * k * (2 * k - 1) / 6 - 1);
}

// Control point n of a picture, curve after curve, uniform in the unit square: words n / 2 hold two of them.
FDSL_INLINE Words control_words(const Spec& spec, const Key& it, int n) {
  return keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_INSTANCE, 0, n / 2);
}
FDSL_INLINE void control_point_of(const Words& r, int n, float& x, float& y) {
  x = static_cast<float>((n % 2 ? r.word[2] : r.word[0]) >> 8) * 0x1p-24f;
  y = static_cast<float>((n % 2 ? r.word[3] : r.word[1]) >> 8) * 0x1p-24f;
}

// Those of one curve of `count`.
FDSL_INLINE void control_points_of(const Spec& spec, const Key& it, int curve, int count, float* x, float* y) {
  Words r = {};
  for (int i = 0, n = curve * count; i < count; ++i, ++n) {
    if (i == 0 || n % 2 == 0) r = control_words(spec, it, n);
    control_point_of(r, n, x[i], y[i]);
  }
}

// V::WIDTH points of a curve at once: the control points weighted by their Bernstein polynomials, always in the same
// order, then placed. `weights` hold `stride` points for each control point.
template <class V>
FDSL_INLINE void bezier_cells(const float* x, const float* y, int count, const float* weights, int stride,
                              const Placement& p, uint32_t* u, uint32_t* v) {
  typename V::Float sx = V::set(0.0f), sy = V::set(0.0f);
  for (int i = 0; i < count; ++i) {
    const typename V::Float weight = V::load(weights + i * stride);
    sx = V::fma(weight, V::set(x[i]), sx);
    sy = V::fma(weight, V::set(y[i]), sy);
  }
  const auto place = [&](double across, double down, double shift) {
    const typename V::Float at =
        V::fma(V::set(static_cast<float>(across)), sx,
               V::fma(V::set(static_cast<float>(down)), sy, V::set(static_cast<float>(shift))));
    // Lines reach no farther, whatever the view; a NaN ends there too.
    return V::truncate(V::minimum(V::maximum(at, V::set(-0x1p27f)), V::set(0x1p27f)));
  };
  V::store(u, place(p.m00, p.m01, p.t0));
  V::store(v, place(p.m10, p.m11, p.t1));
}

}  // namespace fdsl
