// Iterated function systems in the plane.
#include "cuda/points.h"

namespace fdsl {

struct AffineModel {
  using Instance = AffineInstance;
  using System = fdsl::System;
  using Packed = PackedSystem;
  using Maps = fdsl::Maps<Lane>;
  using Trajectories = fdsl::Trajectories<Lane>;
  static constexpr int PARAMETERS = 6;

  // The box of one trajectory's points within the probe's; a NaN is nowhere.
  struct Reach {
    Box bound, box;

    explicit FDSL_MEMBER Reach(const AffineInstance& it) : bound(it.box), box{3.4e38f, -3.4e38f, 3.4e38f, -3.4e38f} {}
    FDSL_MEMBER void visit(const Trajectories& t) {
      if (!(t.x >= bound.x0 && t.x <= bound.x1 && t.y >= bound.y0 && t.y <= bound.y1)) return;
      box.x0 = t.x < box.x0 ? t.x : box.x0;
      box.x1 = t.x > box.x1 ? t.x : box.x1;
      box.y0 = t.y < box.y0 ? t.y : box.y0;
      box.y1 = t.y > box.y1 ? t.y : box.y1;
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
  };

  const Spec& spec;
  const AffineInstance& it;
  const Fit& fit;

  FDSL_MEMBER AffineModel(const Spec& spec, const AffineInstance& it, const Fit& fit) : spec(spec), it(it), fit(fit) {}

  // Scaled to the picture's own box, or to the probe's: also where no point lies within that.
  FDSL_MEMBER Window window() const {
    Box box = it.box;
    if (spec.fit == FIT_OWN && fit.low[0] <= fit.high[0])  // no negative zero, as on the cpu
      box = {unordered(fit.low[0]) + 0.0f, unordered(fit.high[0]) + 0.0f, unordered(fit.low[1]) + 0.0f,
             unordered(fit.high[1]) + 0.0f};
    return place_window(spec, it, box);
  }

  FDSL_MEMBER System placed(const System& system, const Window& w) const {
    System placed;
    place_system(placed, system, w.placement);
    return placed;
  }

  static FDSL_MEMBER const Trajectories& seen(const Trajectories& t) { return t; }
};

}  // namespace fdsl

FDSL_POINT_KERNELS(affine, AffineModel)
