// The model of a system in the plane, for points.h.
#pragma once

#include "cuda/points.h"

namespace fdsl {

struct AffineModel {
  using Instance = AffineInstance;
  using System = fdsl::System;
  using Packed = PackedSystem;
  using Maps = fdsl::Maps<Lane>;
  using Trajectories = fdsl::Trajectories<Lane>;
  using Move = Placement;
  static constexpr int PARAMETERS = 6;

  // The box of one trajectory's points within the probe's; a NaN is nowhere.
  struct Reach {
    Box bound, box;

    FDSL_MEMBER Reach(const AffineInstance& it, const Trajectories&)
        : bound(it.box), box{3.4e38f, -3.4e38f, 3.4e38f, -3.4e38f} {}
    FDSL_MEMBER bool holds(const Trajectories& t) const {
      return t.x >= bound.x0 && t.x <= bound.x1 && t.y >= bound.y0 && t.y <= bound.y1;
    }
    FDSL_MEMBER void visit(const Trajectories& t) {
      if (!holds(t)) return;
      box = {lesser(t.x, box.x0), greater(t.x, box.x1), lesser(t.y, box.y0), greater(t.y, box.y1)};
    }
  };

  // That of all.
  struct Fit {
    int32_t low[2], high[2];

    FDSL_MEMBER void begin() {
      low[0] = low[1] = INT32_MAX;
      high[0] = high[1] = INT32_MIN;
    }
    FDSL_MEMBER void merge(const Reach& reach, int) {
      const Box& box = reach.box;
      if (box.x0 > box.x1) return;
      atomic_min(&low[0], ordered(box.x0));
      atomic_min(&low[1], ordered(box.y0));
      atomic_max(&high[0], ordered(box.x1));
      atomic_max(&high[1], ordered(box.y1));
    }
    FDSL_MEMBER void add_up(int) {}
    // The probe's where no point lies within that. No negative zero, as on the cpu.
    FDSL_MEMBER Box box(const AffineInstance& it) const {
      if (low[0] > high[0]) return it.box;
      return {unordered(low[0]) + 0.0f, unordered(high[0]) + 0.0f, unordered(low[1]) + 0.0f, unordered(high[1]) + 0.0f};
    }
  };

  // Scaled to the picture's own box, or to the probe's; and how the system moves there.
  static FDSL_MEMBER Window window(const Spec& spec, const AffineInstance& it, const Fit& fit, Move& move) {
    const Window w = place_window(spec, it, spec.fit == FIT_OWN ? fit.box(it) : it.box);
    move = w.placement;
    return w;
  }

  static FDSL_MEMBER const Trajectories& seen(const Trajectories& t) { return t; }
};

}  // namespace fdsl
