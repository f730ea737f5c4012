// Batches of points and of polylines that Python has worked out.
#pragma once

#include "cpu/engine.h"
#include "shared/given.h"

namespace fdsl {

struct GivenPointsTask {
  const Spec* spec;
  const GivenPoints* instance;
  const float* points;  // of this picture
  Palette palette;
  uint8_t* out;
};

struct GivenPolylinesTask {
  const Spec* spec;
  const GivenPolylines* instance;
  const float* vertices;  // two floats each, of the whole batch
  const int64_t* ends;    // line i has the vertices from ends[i] to ends[i + 1]; of this picture
  Palette palette;
  uint8_t* out;
};

void draw_given_points_batch(const Kernel& kernel, const float* points, const GivenPoints* instances,
                             const Batch& batch);
void draw_given_polylines_batch(const Kernel& kernel, const float* vertices, const int64_t* ends,
                                const GivenPolylines* instances, const Batch& batch);

}  // namespace fdsl
