// Point clouds of two systems in space each, for cloud_pictures.cu and clouds.cu.
//
// What bounds it: steps that draw nothing, 32 to each trajectory. So a cloud is walked anew for its ends, for its sums
// and for each strip, from where its burn-in ended or from the start: no point is kept in memory, whatever their
// number.
#pragma once

#include "cuda/spatial_model.h"
#include "shared/clouds.h"

namespace fdsl {

struct CloudsTask : SystemsTask {
  int32_t own;  // points of the category itself, which come first; the rest are the partner's
  int32_t unused_too;

  FDSL_MEMBER CloudSpec cloud() const { return {spec.seed, spec.points, own, static_cast<uint32_t>(categories), 0}; }
};

// One of a cloud's two parts: how many points, by how many trajectories, and the number of the first of either.
struct Share {
  int points, threads, first_point, first_trajectory;

  FDSL_MEMBER Share(const CloudsTask& task, int part)
      : points(part == 0 ? task.own : task.spec.points - task.own),
        threads(part == 0 ? TRAJECTORIES : PARTNER_TRAJECTORIES),
        first_point(part == 0 ? 0 : task.own),
        first_trajectory(part == 0 ? 0 : TRAJECTORIES) {}
  FDSL_MEMBER int steps(int thread) const { return steps_of(points, thread, threads); }
};

FDSL_INLINE int parts_of(const CloudsTask& task) { return task.spec.points > task.own ? 2 : 1; }

// What the picture or the box makes of a part's points: m (p - low) + t.
struct PlacedPart {
  PackedSpatialSystem system;
  float m[3][3], t[3], low[3];
};
struct PlacedCloud {
  PlacedPart part[2];
  Window window;
};

// A point as parts are measured: no NaN, and nothing so far that a width is not finite.
struct Bounded {
  float at[3];

  explicit FDSL_MEMBER Bounded(const SpatialTrajectories<Lane>& t) : at{bounded(t.x), bounded(t.y), bounded(t.z)} {}
  static FDSL_MEMBER float bounded(float x) { return Lane::minimum(Lane::maximum(x, -0x1p60f), 0x1p60f); }
};

// A trajectory past its burn-in. A quarter of all start states to each word of Philox.
template <class Record>
FDSL_INLINE SpatialTrajectories<Lane> begin_part(const PackedSpatialSystem& system, const SpatialMaps<Lane>& maps,
                                                 const Spec& spec, const Record& it, int trajectory) {
  constexpr int QUARTER = (TRAJECTORIES + PARTNER_TRAJECTORIES) / 4;
  const Words words =
      keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, trajectory % QUARTER);
  const int k = trajectory / QUARTER;
  return begin_trajectory<SpatialModel>(system, maps,
                                        k == 0   ? words.word[0]
                                        : k == 1 ? words.word[1]
                                        : k == 2 ? words.word[2]
                                                 : words.word[3]);
}

struct PlacingCloud {
  Working<SpatialModel> working;
  CloudPart parts[2];
  int32_t low[3], high[3];
  int64_t sum[3];
};

FDSL_TABLE double UNVARIED[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

// Measures both parts of a cloud, and leaves their systems in `out`.
FDSL_INLINE void measure_parts(const Block& block, const CloudsTask& task, const CloudInstance& it,
                               PlacingCloud& shared, PlacedCloud& out) {
  FDSL_ROLLED
  for (int k = 0; k < parts_of(task); ++k) {
    const Share share(task, k);
    CloudPart& part = shared.parts[k];
    set_up(block, task, k == 0 ? it.category : partner_of(task.cloud(), it), UNVARIED, shared.working);
    Block::Local<SpatialTrajectories<Lane>> begun;
    block.each([&](int thread) {
      copy_words(out.part[k].system, shared.working.packed, thread);
      if (thread >= 3) return;
      shared.low[thread] = INT32_MAX;
      shared.high[thread] = INT32_MIN;
      shared.sum[thread] = 0;
    });
    block.each([&](int thread) {
      if (thread >= share.threads) return;
      const SpatialMaps<Lane> maps(shared.working.packed);
      begun[thread] = begin_part(shared.working.packed, maps, task.spec, it, share.first_trajectory + thread);
      auto t = begun[thread];
      float low[3] = {0x1p60f, 0x1p60f, 0x1p60f}, high[3] = {-0x1p60f, -0x1p60f, -0x1p60f};
      for (int s = share.steps(thread); s > 0; --s) {
        t.step(maps);
        const Bounded p(t);
        FDSL_UNROLL
        for (int axis = 0; axis < 3; ++axis) {
          low[axis] = lesser(p.at[axis], low[axis]);
          high[axis] = greater(p.at[axis], high[axis]);
        }
      }
      if (share.steps(thread) == 0) return;
      FDSL_UNROLL
      for (int axis = 0; axis < 3; ++axis) {
        atomic_min(&shared.low[axis], ordered(low[axis]));
        atomic_max(&shared.high[axis], ordered(high[axis]));
      }
    });
    block.each([&](int thread) {
      if (thread >= 3) return;
      part.low[thread] = unordered(shared.low[thread]) + 0.0f;  // no negative zero, as on the cpu
      part.high[thread] = unordered(shared.high[thread]) + 0.0f;
    });
    block.each([&](int thread) {
      if (share.steps(thread) == 0) return;
      const SpatialMaps<Lane> maps(shared.working.packed);
      const MinMax range = min_max(part);
      const float scale = range.scale * 0x1p20f;
      auto t = begun[thread];
      int64_t sum[3] = {};
      for (int s = share.steps(thread); s > 0; --s) {
        t.step(maps);
        const Bounded p(t);
        FDSL_UNROLL
        for (int axis = 0; axis < 3; ++axis) sum[axis] += truncated(fused(p.at[axis] + -range.low, scale, -0x1p20f));
      }
      FDSL_UNROLL
      for (int axis = 0; axis < 3; ++axis) atomic_add(&shared.sum[axis], sum[axis]);
    });
    block.each([&](int thread) {
      if (thread < 3) part.centroid[thread] = static_cast<double>(shared.sum[thread]) / share.points * 0x1p-20;
    });
  }
}

// A part's points where they go: in homogeneous cells, or in the cloud.
struct PartPlace {
  float m[3][3], t[3], low[3];

  explicit FDSL_MEMBER PartPlace(const PlacedPart& part) { copy_bytes<sizeof *this>(this, part.m); }
  FDSL_MEMBER void operator()(const SpatialTrajectories<Lane>& from, float* to) const {
    Bounded p(from);
    FDSL_UNROLL
    for (int axis = 0; axis < 3; ++axis) p.at[axis] += -low[axis];
    FDSL_UNROLL
    for (int row = 0; row < 3; ++row)
      to[row] = fused(m[row][0], p.at[0], fused(m[row][1], p.at[1], fused(m[row][2], p.at[2], t[row])));
  }
};

// Calls use(share, thread, t, maps) for the trajectories of both parts, one part after the other.
template <class Shared, class Use>
FDSL_INLINE void each_part(const Block& block, const CloudsTask& task, const PlacedCloud& cloud, Shared& shared,
                           Use use) {
  FDSL_ROLLED
  for (int k = 0; k < parts_of(task); ++k) {
    block.each([&](int thread) { copy_words(shared.part, cloud.part[k], thread); });
    block.each([&](int thread) {
      const Share share(task, k);
      if (share.steps(thread) > 0) use(share, thread, SpatialMaps<Lane>(shared.part.system));
    });
  }
}

}  // namespace fdsl
