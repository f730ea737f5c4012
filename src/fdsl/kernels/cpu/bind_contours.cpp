#include "cpu/bindings.h"
#include "cpu/contours.h"

using namespace fdsl;

namespace {

void draw_contours(const std::string& kernel, const Records<ContourInstance>& instances, const SpecBytes& spec,
                   const Matrix<const uint8_t>& palette, const Images& out, int threads) {
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  // A line's shade is any byte.
  check(batch.spec.color != COLOR_GRAY || palette.shape(0) >= 256, "the palette does not fit the colours");
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_contours_batch(chosen, records_of<ContourInstance>(instances), batch);
}

}  // namespace

void bind_contours(nb::module_& module) {
  module.attr("CONTOUR_INSTANCE_BYTES") = sizeof(ContourInstance);
  module.attr("MAX_VERTICES") = MAX_VERTICES;
  module.attr("MAX_LINES") = MAX_LINES;
  module.attr("MAX_BREAKS") = MAX_BREAKS;
  module.def("draw_contours", &draw_contours, nb::arg("kernel"), nb::arg("instances").noconvert(),
             nb::arg("spec").noconvert(), nb::arg("palette").noconvert(), nb::arg("out").noconvert(),
             nb::arg("threads"), "Draws radial contours into out, uint8 (B, channels, size, size).");
}
