#include "cpu/bezier.h"
#include "cpu/bindings.h"

using namespace fdsl;

namespace {

void draw_bezier(const std::string& kernel, const Vector<const int32_t>& control_points,
                 const Vector<const int32_t>& curves, const Vector<const float>& weights,
                 const Records<BezierInstance>& instances, const SpecBytes& spec, const Matrix<const uint8_t>& palette,
                 const Images& out, int threads) {
  const int most = most_control_points(weights.shape(0));
  check(control_points.shape(0) == curves.shape(0) && most >= 2, "parameters do not fit together");
  const BezierParameters parameters = {control_points.data(), curves.data(), weights.data(), most};
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const BezierInstance* records = records_of<BezierInstance>(instances, curves.shape(0));
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_bezier_batch(chosen, parameters, records, batch);
}

}  // namespace

void bind_bezier(nb::module_& module) {
  module.attr("BEZIER_INSTANCE_BYTES") = sizeof(BezierInstance);
  module.attr("MAX_CONTROL_POINTS") = MAX_CONTROL_POINTS;
  module.attr("PIECES") = PIECES;
  module.def("draw_bezier", &draw_bezier, nb::arg("kernel"), nb::arg("control_points").noconvert(),
             nb::arg("curves").noconvert(), nb::arg("weights").noconvert(), nb::arg("instances").noconvert(),
             nb::arg("spec").noconvert(), nb::arg("palette").noconvert(), nb::arg("out").noconvert(),
             nb::arg("threads"), "Draws Bezier curves into out, uint8 (B, channels, size, size).");
}
