// Point clouds of two systems in space each, before a camera.
#include "cuda/clouds.h"

namespace fdsl {

FDSL_INLINE void place_cloud_pictures(const Block& block, const CloudsTask& task, void*) {
  auto& shared = block.shared<PlacingCloud>();
  const auto& it = task.record<CloudPicture>(block.number());
  auto& out = static_cast<PlacedCloud*>(task.places)[block.number()];
  const CloudInstance cloud = {it.category, it.number, it.epoch, 0, 0, {}};
  measure_parts(block, task, cloud, shared, out);
  block.each([&](int thread) {
    if (thread > 0) return;
    const double half = 0.5 * task.spec.of;
    out.window = place_window(task.spec, it, half, half, half, half);
    const Extent normalised = {-1.0f, 1.0f, {0.0f, 0.0f, 0.0f}};
    const SpatialPlacement camera = place_camera(normalised, it.turn, 0, out.window.placement);
    CloudPlacement placements[2];
    place_cloud(cloud, shared.parts, parts_of(task), placements);
    FDSL_ROLLED
    for (int k = 0; k < parts_of(task); ++k) {
      const CloudPlacement& p = placements[k];
      PlacedPart& part = out.part[k];
      for (int row = 0; row < 3; ++row) {
        const double* c = camera.m[row];
        part.m[row][0] = static_cast<float>(c[0] * p.xx + c[1] * p.yx);
        part.m[row][1] = static_cast<float>(c[0] * p.xy + c[1] * p.yy);
        part.m[row][2] = static_cast<float>(c[2] * p.zz);
        part.t[row] = static_cast<float>(c[0] * p.t[0] + c[1] * p.t[1] + c[2] * p.t[2] + camera.t[row]);
        part.low[row] = shared.parts[k].low[row];
      }
    }
  });
}

struct CloudDrawing {
  PlacedPart part;
  Place place;
  uint32_t random[TRAJECTORIES];  // of the patches of points, by their number
  alignas(16) uint32_t plane[1];  // as long as what is asked for
};

template <bool BITS, Memory MEMORY>
FDSL_INLINE void draw_picture(const Block& block, const CloudsTask& task, void* out) {
  auto& shared = block.shared<CloudDrawing>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  const auto& it = task.record<CloudPicture>(strip.picture);
  const auto& cloud = static_cast<const PlacedCloud*>(task.places)[strip.picture];
  const bool stamped = spec.draw == DRAW_PATCH_PER_POINT;
  const int stride = BITS ? bit_stride(spec.size) : number_stride(spec.size);
  const int words = cells_of(strip, stride) / (BITS ? 32 : 1);
  uint32_t* const plane = plane_of<MEMORY>(block, task, shared, words);
  clear(block, plane, words);
  block.each([&](int thread) {
    if (thread == 0) shared.place = Place(cloud.window, it, strip, spec.size, stride);
    if (stamped) shared.random[thread] = nonzero(trajectory_words(spec, it, TRAJECTORIES + thread).word[0]);
  });
  each_part(block, task, cloud, shared, [&](const Share& share, int thread, const SpatialMaps<Lane>& maps) {
    auto t = begin_part(shared.part.system, maps, spec, it, share.first_trajectory + thread);
    const RaisedPlace place(shared.place);
    const PartPlace placed(shared.part);
    const auto seen = [&](const SpatialTrajectories<Lane>& from) {
      float at[3];
      placed(from, at);
      const float inverse = 1.0f / at[2];
      return SpatialModel::Point{at[0] * inverse, at[1] * inverse};
    };
    const int first = share.first_point + thread;
    if constexpr (BITS) {
      walk(t, maps, 0, share.steps(thread), place, seen, [](int) {}, [=](int, int32_t cell) { hit(plane, cell); });
    } else {
      const auto next = [&](int s) {
        uint32_t& random = shared.random[(first + s * share.threads) % TRAJECTORIES];
        return random = xorshift32<Lane>(random);
      };
      leave_numbers(spec, plane, shared.place.grid, first, share.threads, next,
                    [&](auto stir, auto visit) { walk(t, maps, 0, share.steps(thread), place, seen, stir, visit); });
    }
  });
  const uint32_t neighbours = spec.draw == DRAW_PATCH ? it.neighbours : 0;
  if constexpr (BITS)
    write_bits(block, task, strip, plane, shared.place.grid, neighbours, out);
  else
    write_numbers(block, task, strip, plane, shared.place.grid, neighbours, out, NumberEntry{spec.color, stamped});
}

FDSL_INLINE void draw_cloud_pictures_bits(const Block& block, const CloudsTask& task, void* out) {
  draw_picture<true, SHARED>(block, task, out);
}
FDSL_INLINE void draw_cloud_pictures_numbers(const Block& block, const CloudsTask& task, void* out) {
  draw_picture<false, SHARED>(block, task, out);
}
FDSL_INLINE void draw_cloud_pictures_numbers_outside(const Block& block, const CloudsTask& task, void* out) {
  draw_picture<false, OUTSIDE>(block, task, out);
}

}  // namespace fdsl

FDSL_SIZE(clouds_task, fdsl::CloudsTask)
FDSL_SIZE(placed_cloud, fdsl::PlacedCloud)
FDSL_SIZE(placing_cloud, fdsl::PlacingCloud)
FDSL_SIZE(cloud_drawing, fdsl::CloudDrawing)
FDSL_KERNEL(place_cloud_pictures, CloudsTask, 5)
FDSL_KERNEL(draw_cloud_pictures_bits, CloudsTask, 5)
FDSL_KERNEL(draw_cloud_pictures_numbers, CloudsTask)
FDSL_KERNEL(draw_cloud_pictures_numbers_outside, CloudsTask)
