// What each instruction set compiles: every painter, over its lanes.
#pragma once

#include "cpu/affine_painter.h"
#include "cpu/bezier_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/contours_painter.h"
#include "cpu/given_painter.h"
#include "cpu/perlin_painter.h"
#include "cpu/spatial_painter.h"

namespace fdsl {

template <class V>
constexpr Kernel kernel_of(const char* name) {
  return {
      .name = name,
      .draw_affine = draw_points<V, AffineModel<V>>,
      .measure_affine = measure_affine<V>,
      .draw_spatial = draw_points<V, SpatialModel<V>>,
      .measure_spatial = measure_spatial<V>,
      .draw_cloud = draw_cloud<V>,
      .draw_cloud_picture = draw_cloud_picture<V>,
      .draw_contours = draw_contours<V>,
      .draw_bezier = draw_bezier<V>,
      .draw_perlin = draw_perlin<V>,
      .draw_given_points = draw_given_points<V>,
      .draw_given_polylines = draw_given_polylines<V>,
  };
}

}  // namespace fdsl
