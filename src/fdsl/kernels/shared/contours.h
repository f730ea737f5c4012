// Radial contours: closed polylines whose vertices move along their own directions before each line, by noise (Kataoka
// et al., Replacing Labeled Real-Image Datasets with Auto-Generated Contours, CVPR 2022: RCDB; Takashima et al., Visual
// Atoms, CVPR 2023). A vertex depends on no other, so that a lane or a GPU thread owns one and steps it line by line; a
// block waits before and after it draws a line, because later lines cover earlier ones.
#pragma once

#include "noise.h"
#include "picture.h"
#include "xorshift.h"

namespace fdsl {

constexpr int MAX_VERTICES = 4096, MAX_LINES = 0xFFFF, MAX_BREAKS = 0xFFFF;  // numbered in 16 bits
constexpr double PLANE = 512.0;  // units of the formula's plane that a whole picture shows
// Pixels are held so near that a line between two of them is exact in 32 bits.
constexpr float FARTHEST_PIXEL = 0x1p20f;

// One picture; primitives.Contours has the same record. Lengths are in units of the plane, y points down.
struct ContourInstance : Key {
  double axis[2];    // of the ellipse that the vertices start on
  double centre[2];  // of that ellipse
  double gain, shift;
  int32_t vertices, lines;
  int32_t frequency[2];  // of the two waves, 0 for none
  int32_t shades;        // a line has one of so many, the last of which end at 255
  int32_t first_shade;   // palette row of the first; rows count modulo 256
  int32_t breaks;        // lines in the ground's colour across the finished picture
};

// What one vertex is: before each line, with P = pnoise1 drawn anew for either axis,
//   x -= cosine (gain P + bend), y -= sine (gain P + bend), bend = shift - sin(f1 angle) / 2 - sin(f2 angle) / 2.
struct Vertex {
  float x, y, minus_cosine, minus_sine, bend;
  uint32_t state_x, state_y;
};

FDSL_INLINE Vertex make_vertex(const ContourInstance& it, uint64_t seed, uint32_t i) {
  const uint32_t count = it.vertices;
  const uint32_t turns = static_cast<uint32_t>(((static_cast<uint64_t>(i) << 32) + count / 2) / count);
  const SineCosine angle = sine_cosine(turns);
  double bend = it.shift;
  for (int k = 0; k < 2; ++k) bend -= 0.5 * sine_cosine(static_cast<uint32_t>(it.frequency[k]) * turns).sine;
  const Words r = keyed_words(seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, i);
  return {static_cast<float>(it.axis[0] * angle.cosine),
          static_cast<float>(it.axis[1] * angle.sine),
          static_cast<float>(-angle.cosine),
          static_cast<float>(-angle.sine),
          static_cast<float>(bend),
          nonzero(r.word[0]),
          nonzero(r.word[1])};
}

// Noise of one axis of V::WIDTH vertices, from the gain over NOISE_SCALE.
template <class V>
FDSL_INLINE typename V::Float push(typename V::Int& state, typename V::Float gain, typename V::Float bend,
                                   const typename V::Slopes& slopes) {
  state = xorshift32<V>(state);
  return V::fma(gain, noise_at<V>(state, slopes), bend);
}

// The palette's row of a line.
FDSL_INLINE uint8_t line_shade(const ContourInstance& it, uint64_t seed, uint32_t line) {
  const Words r = keyed_words(seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, line);
  const uint32_t shade = below(r.word[2], it.shades);
  return static_cast<uint8_t>((shade < 255 ? shade : 255) + it.first_shade);
}

// The ends of a break, in units: x0, y0, x1, y1, anywhere in the plane.
FDSL_INLINE void break_ends(const ContourInstance& it, uint64_t seed, uint32_t line, float* ends) {
  const Words r = keyed_words(seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 1, line);
  for (int k = 0; k < 4; ++k) ends[k] = static_cast<float>(r.word[k] >> 8) * 0x1p-15f;
}

// From units, relative to a point of the plane, to pixels: as the window has it, without the margin of its cells.
struct ContourPlacement {
  float m00, m01, m10, m11, t0, t1;
  int32_t left, top;

  FDSL_MEMBER ContourPlacement(const Spec& spec, const Key& it, double x, double y, bool* mirror) {
    const double scale = spec.of / PLANE;
    const Window w = place_window(spec, it, scale, scale, scale * x, scale * y);
    const Placement& p = w.placement;
    m00 = static_cast<float>(p.m00);
    m01 = static_cast<float>(p.m01);
    m10 = static_cast<float>(p.m10);
    m11 = static_cast<float>(p.m11);
    t0 = static_cast<float>(p.t0 - MARGIN);
    t1 = static_cast<float>(p.t1 - MARGIN);
    left = w.left;
    top = w.top;
    *mirror = w.mirror;
  }
};

// Pixels of V::WIDTH points; truncated toward zero, as the published code's integers are. A NaN goes far away.
template <class V>
FDSL_INLINE void place_points(const ContourPlacement& p, typename V::Float x, typename V::Float y,
                              typename V::Int& column, typename V::Int& row) {
  const typename V::Float low = V::set(-FARTHEST_PIXEL), high = V::set(FARTHEST_PIXEL);
  const typename V::Float u = V::fma(V::set(p.m00), x, V::fma(V::set(p.m01), y, V::set(p.t0)));
  const typename V::Float v = V::fma(V::set(p.m10), x, V::fma(V::set(p.m11), y, V::set(p.t1)));
  column = V::subtract(V::truncate(V::minimum(V::maximum(u, low), high)), V::set(p.left));
  row = V::subtract(V::truncate(V::minimum(V::maximum(v, low), high)), V::set(p.top));
}

}  // namespace fdsl
