#include "cpu/bindings.h"
#include "cpu/perlin.h"

using namespace fdsl;

namespace {

void draw_perlin(const std::string& kernel, const Rows<const int32_t, 2>& frequencies,
                 const Records<PerlinInstance>& instances, const SpecBytes& spec, const Matrix<const uint8_t>& palette,
                 const Images& out, int threads) {
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const PerlinInstance* records = records_of<PerlinInstance>(instances, frequencies.shape(0));
  check(batch.spec.color != COLOR_COLOR || batch.palette.channels == 3, "the palette does not fit the colours");
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_perlin_batch(chosen, frequencies.data(), records, batch);
}

}  // namespace

void bind_perlin(nb::module_& module) {
  module.attr("PERLIN_INSTANCE_BYTES") = sizeof(PerlinInstance);
  module.def("draw_perlin", &draw_perlin, nb::arg("kernel"), nb::arg("frequencies").noconvert(),
             nb::arg("instances").noconvert(), nb::arg("spec").noconvert(), nb::arg("palette").noconvert(),
             nb::arg("out").noconvert(), nb::arg("threads"),
             "Draws gradient noise into out, uint8 (B, channels, size, size).");
}
