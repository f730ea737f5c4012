// The model of a system in space, seen by a camera, for points.h.
#pragma once

#include "cuda/points.h"
#include "shared/camera.h"

namespace fdsl {

struct SpatialModel {
  using Instance = SpatialInstance;
  using System = SpatialSystem;
  using Packed = PackedSpatialSystem;
  using Maps = SpatialMaps<Lane>;
  using Trajectories = SpatialTrajectories<Lane>;
  using Move = SpatialPlacement;
  static constexpr int PARAMETERS = 12;

  // Ends, sums of x, y and z, and number of one trajectory's points whose three coordinates lie within the probe's.
  struct Reach {
    float bound_low, bound_high, low, high, sum[4];

    FDSL_MEMBER Reach(const SpatialInstance& it, const Trajectories&)
        : bound_low(it.extent.low), bound_high(it.extent.high), low(3.4e38f), high(-3.4e38f), sum{} {}
    FDSL_MEMBER void visit(const Trajectories& t) {
      const float least = Lane::minimum(Lane::minimum(t.x, t.y), t.z);
      const float most = Lane::maximum(Lane::maximum(t.x, t.y), t.z);
      if (!(least >= bound_low && most <= bound_high)) return;
      low = lesser(least, low);
      high = greater(most, high);
      sum[0] += t.x;
      sum[1] += t.y;
      sum[2] += t.z;
      sum[3] += 1.0f;
    }
  };

  // Those of all: each trajectory's sums are rounded by themselves, and then added in the order of the trajectories.
  struct Fit {
    int32_t low, high;
    double total[4];
    float sum[4][TRAJECTORIES];

    FDSL_MEMBER void begin() {
      low = INT32_MAX;
      high = INT32_MIN;
    }
    FDSL_MEMBER void merge(const Reach& reach, int thread) {
      FDSL_UNROLL
      for (int axis = 0; axis < 4; ++axis) sum[axis][thread] = reach.sum[axis];
      if (reach.low > reach.high) return;
      atomic_min(&low, ordered(reach.low));
      atomic_max(&high, ordered(reach.high));
    }
    FDSL_MEMBER void add_up(int thread) {
      if (thread >= 4) return;
      double all = 0.0;
      for (int j = 0; j < TRAJECTORIES; ++j) all += sum[thread][j];
      total[thread] = all;
    }
    // The probe's where no point lies within that. No negative zero, as on the cpu.
    FDSL_MEMBER Extent extent(const SpatialInstance& it) const {
      if (!(total[3] > 0.0)) return it.extent;
      Extent own;
      own.low = unordered(low) + 0.0f;
      own.high = unordered(high) + 0.0f;
      for (int axis = 0; axis < 3; ++axis) own.centre[axis] = static_cast<float>(total[axis] / total[3]);
      return own;
    }
  };

  // The camera sees normalised device coordinates from -1 to 1 across the whole picture, y upward.
  static FDSL_MEMBER Window window(const Spec& spec, const SpatialInstance& it, const Fit& fit, Move& move) {
    const double half = 0.5 * spec.of;
    const Window w = place_window(spec, it, half, half, half, half);
    const Extent extent = spec.fit == FIT_OWN ? fit.extent(it) : it.extent;
    move = place_camera(extent, it.turn, it.elevation, w.placement);
    return w;
  }

  struct Point {
    float x, y;
  };
  // One division for both coordinates. What the camera does not see comes to infinity or to no number, which no window
  // wants.
  static FDSL_MEMBER Point seen(const Trajectories& t) {
    const float inverse = t.z >= CAMERA_NEAR && t.z <= CAMERA_FAR ? 1.0f / t.z : bits_float(0x7F800000);
    return {t.x * inverse, t.y * inverse};
  }
};

}  // namespace fdsl
