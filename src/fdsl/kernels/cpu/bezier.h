// Batches of pictures of Bezier curves.
#pragma once

#include "cpu/engine.h"
#include "shared/bezier.h"

namespace fdsl {

struct BezierInstance : Key {};

// One picture to draw: its instance, its category, and where the pixels go (channels, size, size).
struct BezierTask {
  const Spec* spec;
  const BezierInstance* instance;
  int control_points, curves;
  const float* weights;  // of its number of control points: (control points, bezier_points)
  Palette palette;
  uint8_t* out;
};

// A catalog's parameters, each (C), and the weights of 2 to `most` control points, one after the other.
struct BezierParameters {
  const int32_t* control_points;
  const int32_t* curves;
  const float* weights;
  int most;
};

// The most control points that so many weights are for.
inline int most_control_points(size_t weights) {
  int most = 1;
  while (most < MAX_CONTROL_POINTS && bezier_weights_start(most + 2) <= static_cast<int64_t>(weights)) ++most;
  return most;
}

void draw_bezier_batch(const Kernel& kernel, const BezierParameters& parameters, const BezierInstance* instances,
                       const Batch& batch);

}  // namespace fdsl
