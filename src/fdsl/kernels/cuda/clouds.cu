// Point clouds of two systems in space each, as they are: float (points, 3) to each.
#include "cuda/clouds.h"

namespace fdsl {

FDSL_INLINE void place_clouds(const Block& block, const CloudsTask& task, void*) {
  auto& shared = block.shared<PlacingCloud>();
  const auto& it = task.record<CloudInstance>(block.number());
  auto& out = static_cast<PlacedCloud*>(task.places)[block.number()];
  measure_parts(block, task, it, shared, out);
  block.each([&](int thread) {
    if (thread > 0) return;
    CloudPlacement placements[2];
    place_cloud(it, shared.parts, parts_of(task), placements);
    FDSL_ROLLED
    for (int k = 0; k < parts_of(task); ++k) {
      const CloudPlacement& p = placements[k];
      PlacedPart& part = out.part[k];
      const float m[3][3] = {{p.xx, p.xy, 0.0f}, {p.yx, p.yy, 0.0f}, {0.0f, 0.0f, p.zz}};
      for (int row = 0; row < 3; ++row) {
        for (int column = 0; column < 3; ++column) part.m[row][column] = m[row][column];
        part.t[row] = p.t[row];
        part.low[row] = shared.parts[k].low[row];
      }
    }
  });
}

struct DrawnCloud {
  PlacedPart part;
};

FDSL_INLINE void draw_clouds(const Block& block, const CloudsTask& task, void* out) {
  auto& shared = block.shared<DrawnCloud>();
  const auto& it = task.record<CloudInstance>(block.number());
  const auto& cloud = static_cast<const PlacedCloud*>(task.places)[block.number()];
  float* const points = static_cast<float*>(out) + int64_t{3} * task.spec.points * block.number();
  each_part(block, task, cloud, shared, [&](const Share& share, int thread, const SpatialMaps<Lane>& maps) {
    auto t = begin_part(shared.part.system, maps, task.spec, it, share.first_trajectory + thread);
    const PartPlace placed(shared.part);
    float* to = points + 3 * (share.first_point + thread);
    FDSL_UNROLL_BY(2)
    for (int s = share.steps(thread); s > 0; --s, to += 3 * share.threads) {
      t.step(maps);
      float at[3];
      placed(t, at);
      FDSL_UNROLL
      for (int axis = 0; axis < 3; ++axis) to[axis] = at[axis];
    }
  });
}

}  // namespace fdsl

FDSL_SIZE(drawn_cloud, fdsl::DrawnCloud)
FDSL_KERNEL(place_clouds, CloudsTask, 5)
FDSL_KERNEL(draw_clouds, CloudsTask, 5)
