// The camera of ExFractalDB and MV-FractalDB (Yamada et al., CVPR 2022 and IROS 2021): image_render/render.py there.
#pragma once

#include "spatial_ifs.h"

namespace fdsl {

constexpr double CAMERA_DISTANCE = 4.0;                   // from the origin, which it looks at
constexpr double CAMERA_FOCUS = 2.414213562373095048802;  // 1 / tan(45 degrees / 2)
constexpr float CAMERA_NEAR = 1.0f, CAMERA_FAR = 100.0f;  // what lies nearer or farther is not seen

// Space to homogeneous cells: a point comes to (X, Y, Z) and lies in the cell (X / Z, Y / Z), at the distance Z.
//
// The cloud is scaled so that its coordinates, all three together, span 2, and its centre of mass comes to the origin.
// The direction of sight is the x axis, raised by `elevation` and turned about the y axis, which stays upright. All of
// that is affine, and so is what follows it in the plane of the picture, with (x, y) / Z the normalised device
// coordinates that `cells` takes.
FDSL_INLINE SpatialPlacement place_camera(const Extent& extent, uint32_t turn, uint32_t elevation,
                                          const Placement& cells) {
  const SineCosine about = sine_cosine(turn), raised = sine_cosine(elevation);
  const double ahead[3] = {raised.cosine * about.cosine, raised.sine, -(raised.cosine * about.sine)};
  const double right[3] = {about.sine, 0.0, about.cosine};
  const double up[3] = {-(raised.sine * about.cosine), raised.cosine, raised.sine * about.sine};
  const double width = static_cast<double>(extent.high) - static_cast<double>(extent.low);
  const double scale = width > 0.0 ? 2.0 / width : 1.0;
  SpatialPlacement p;
  for (int axis = 0; axis < 3; ++axis) {
    const double x = CAMERA_FOCUS * right[axis], y = CAMERA_FOCUS * up[axis];
    p.m[0][axis] = scale * (cells.m00 * x + cells.m01 * y + cells.t0 * ahead[axis]);
    p.m[1][axis] = scale * (cells.m10 * x + cells.m11 * y + cells.t1 * ahead[axis]);
    p.m[2][axis] = scale * ahead[axis];
  }
  const double far[3] = {cells.t0 * CAMERA_DISTANCE, cells.t1 * CAMERA_DISTANCE, CAMERA_DISTANCE};
  for (int row = 0; row < 3; ++row)
    p.t[row] =
        far[row] - (p.m[row][0] * extent.centre[0] + p.m[row][1] * extent.centre[1] + p.m[row][2] * extent.centre[2]);
  return p;
}

}  // namespace fdsl
