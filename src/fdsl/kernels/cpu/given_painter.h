// Drawing given points and polylines on one CPU thread. Each instruction set compiles this in its own file.
//
// What bounds it: Python, which works the points out; here, clearing the grid and writing the output.
#pragma once

#include "cpu/given.h"
#include "cpu/grid.h"
#include "cpu/lanes_portable.h"
#include "shared/lines.h"

namespace fdsl {

// The box of `count` points of two numbers each, at least one.
FDSL_INLINE Box box_of(const float* points, int64_t count) {
  Box box = {points[0], points[0], points[1], points[1]};
  for (int64_t i = 1; i < count; ++i) widen(box, {points[2 * i], points[2 * i], points[2 * i + 1], points[2 * i + 1]});
  return box;
}

// Calls visit(i, u, v) for each point inside the window's rectangle; where(i) is its position in cells.
template <class Where, class Visit>
FDSL_INLINE void visit_points(const Window& w, int32_t count, Where where, Visit visit) {
  const double u0 = w.u0 + MARGIN, u1 = w.u1 + MARGIN, v0 = w.v0 + MARGIN, v1 = w.v1 + MARGIN;
  for (int32_t i = 0; i < count; ++i) {
    const Position at = where(i);
    if (at.x >= u0 && at.x < u1 && at.y >= v0 && at.y < v1)
      visit(i, static_cast<int32_t>(at.x), static_cast<int32_t>(at.y));
  }
}

// Point i is point i / 256 of trajectory i % 256 to the colours, and to the generators of patches.
template <class V>
void draw_given_points(const GivenPointsTask& task, void* scratch) {
  const Spec& spec = *task.spec;
  const GivenPoints& it = *task.instance;
  const float* points = task.points;
  const bool flat = it.dimensions == 2;
  const Box box = flat ? box_of(points, it.points) : Box{-1.0f, 1.0f, -1.0f, 1.0f};  // or what the camera sees
  const Window w = flat ? place_from_corner(spec, it, box) : place_window(spec, it, box);
  const Placement& p = w.placement;
  const Grid grid(w, it, spec.size, spec.size + 2 * MARGIN);
  SpatialPlacement camera = {};
  if (!flat) camera = place_camera(extent_of(points, it.points), it.turns, 0, p);
  const auto in_plane = [&](int64_t i) {
    const double x = static_cast<double>(points[2 * i]) - box.x0, y = static_cast<double>(points[2 * i + 1]) - box.y0;
    return Position{p.m00 * x + p.m01 * y + p.t0, p.m10 * x + p.m11 * y + p.t1};
  };
  // No point comes nearer to the camera than 1.1: none is farther than 2 sqrt 2 from the centre.
  const auto in_space = [&](int64_t i) {
    double seen[3];
    for (int row = 0; row < 3; ++row)
      seen[row] = camera.m[row][0] * points[3 * i] + camera.m[row][1] * points[3 * i + 1] +
                  camera.m[row][2] * points[3 * i + 2] + camera.t[row];
    return Position{seen[0] / seen[2], seen[1] / seen[2]};
  };
  const auto visit_all = [&](auto visit) {
    if (flat)
      visit_points(w, it.points, in_plane, visit);
    else
      visit_points(w, it.points, in_space, visit);
  };
  const size_t cells = static_cast<size_t>(grid.rows) * grid.stride;
  if (spec.draw == DRAW_PATCH_PER_POINT) {
    uint32_t random[TRAJECTORIES];
    for (uint32_t j = 0; j < TRAJECTORIES; ++j)
      random[j] = nonzero(keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, j).word[1]);
    uint8_t* stamped = static_cast<uint8_t*>(scratch);
    std::memset(stamped, 0, cells);
    // A generator steps with every point, seen or not, so that a crop is a part of the whole picture.
    int32_t stepped = 0;
    visit_all([&](int32_t i, int32_t u, int32_t v) {
      for (; stepped <= i; ++stepped)
        random[stepped % TRAJECTORIES] = xorshift32<Portable>(random[stepped % TRAJECTORIES]);
      stamp_patch(stamped, grid, u, v, random[i % TRAJECTORIES],
                  spec.color == COLOR_COLOR ? 1 + i / TRAJECTORIES % HUES : 1);
    });
    write_cells(stamped, grid, spec.size, task.palette, task.out, [](uint8_t cell) { return cell; });
    return;
  }
  // A number per pixel: the number of the last point to reach it, from 1 on, or the count of points.
  uint32_t* numbers = static_cast<uint32_t*>(scratch);
  std::memset(numbers, 0, cells * sizeof *numbers);
  if (spec.color == COLOR_DENSITY)
    visit_all([&](int32_t, int32_t u, int32_t v) { ++numbers[grid.index(u, v)]; });
  else
    visit_all([&](int32_t i, int32_t u, int32_t v) { numbers[grid.index(u, v)] = i + 1; });
  if (spec.draw == DRAW_PATCH) {
    dilate_numbers(numbers, numbers + cells, grid, it.neighbours);
    numbers += cells;
  }
  const Color color = spec.color;
  write_cells(numbers, grid, spec.size, task.palette, task.out, [color](uint32_t number) {
    if (color == COLOR_COLOR) return number ? 1 + (number - 1) / TRAJECTORIES % HUES : 0;
    const uint32_t most = color == COLOR_DENSITY ? DENSITY_LEVELS - 1 : 1;
    return number < most ? number : most;
  });
}

template <class V>
void draw_given_polylines(const GivenPolylinesTask& task, void* scratch) {
  const Spec& spec = *task.spec;
  const GivenPolylines& it = *task.instance;
  const Box box = box_of(task.vertices + 2 * task.ends[0], task.ends[it.lines] - task.ends[0]);
  const Window w = place_from_corner(spec, it, box);
  const Grid grid(w, it, spec.size, spec.size + 2 * MARGIN);
  uint8_t* cells = static_cast<uint8_t*>(scratch);
  std::memset(cells, 0, static_cast<size_t>(grid.rows) * grid.stride);
  const Placement& p = w.placement;
  const Clip clip = {w.u0 + MARGIN, w.v0 + MARGIN, w.u1 + MARGIN, w.v1 + MARGIN};
  for (int64_t line = 0; line < it.lines; ++line) {
    const uint8_t value = spec.color == COLOR_COLOR ? 1 + line * LINE_HUES % HUES : 1;
    int32_t last_u = 0, last_v = 0;
    for (int64_t i = task.ends[line]; i < task.ends[line + 1]; ++i) {
      const double x = static_cast<double>(task.vertices[2 * i]) - box.x0;
      const double y = static_cast<double>(task.vertices[2 * i + 1]) - box.y0;
      const int32_t u = cell_below(p.m00 * x + p.m01 * y + p.t0), v = cell_below(p.m10 * x + p.m11 * y + p.t1);
      const bool begins = i == task.ends[line];
      draw_line(begins ? u : last_u, begins ? v : last_v, u, v, clip,
                [&](int32_t pu, int32_t pv) { cells[grid.index(pu, pv)] = value; });
      last_u = u;
      last_v = v;
    }
  }
  write_cells(cells, grid, spec.size, task.palette, task.out, [](uint8_t cell) { return cell; });
}

}  // namespace fdsl
