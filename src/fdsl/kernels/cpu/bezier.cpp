#include "cpu/bezier.h"

#include "cpu/share.h"

namespace fdsl {

void draw_bezier_batch(const Kernel& kernel, const BezierParameters& parameters, const BezierInstance* instances,
                       const Batch& batch) {
  share(batch.count, batch.threads, 0, [&](size_t i, void*) {
    const uint32_t category = instances[i].category;
    // A large catalog's arrays were not read when it was opened: no number in them may lead out of the weights.
    const int control_points = std::clamp(parameters.control_points[category], 2, parameters.most);
    const int curves = std::clamp(parameters.curves[category], 1, MAX_CONTROL_POINTS - 1);
    kernel.draw_bezier({&batch.spec, &instances[i], control_points, curves,
                        parameters.weights + bezier_weights_start(control_points), batch.palette, batch.picture(i)});
  });
}

}  // namespace fdsl
