#include "cpu/bindings.h"

using namespace fdsl;

namespace {

void draw_affine(const std::string& kernel, const Systems<6>& affine, const Matrix<const double>& probability,
                 const Vector<const int32_t>& maps, const Records<AffineInstance>& instances, const SpecBytes& spec,
                 const Matrix<const uint8_t>& palette, const Images& out, int threads) {
  const AffineParameters parameters = parameters_of<6>(affine, probability, maps);
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const AffineInstance* records = records_of<AffineInstance>(instances, maps.shape(0));
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_affine_batch(chosen, parameters, records, batch);
}

void measure_affine(const std::string& kernel, const Systems<6>& affine, const Matrix<const double>& probability,
                    const Vector<const int32_t>& maps, const Records<AffineInstance>& instances, const SpecBytes& spec,
                    const Vector<const int32_t>& enough, const Rows<uint8_t, sizeof(Measurement)>& out, int threads) {
  const AffineParameters parameters = parameters_of<6>(affine, probability, maps);
  const AffineInstance* records = records_of<AffineInstance>(instances, maps.shape(0));
  const size_t count = instances.shape(0);
  check(out.shape(0) == count && enough.shape(0) == count, "out does not fit the batch");
  const Spec& shared = spec_of(spec);
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  measure_affine_batch(chosen, parameters, records, count, shared, enough.data(),
                       reinterpret_cast<Measurement*>(out.data()), threads);
}

void draw_spatial(const std::string& kernel, const Systems<12>& affine, const Matrix<const double>& probability,
                  const Vector<const int32_t>& maps, const Records<SpatialInstance>& instances, const SpecBytes& spec,
                  const Matrix<const uint8_t>& palette, const Images& out, int threads) {
  const AffineParameters parameters = parameters_of<12>(affine, probability, maps);
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const SpatialInstance* records = records_of<SpatialInstance>(instances, maps.shape(0));
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_spatial_batch(chosen, parameters, records, batch);
}

void measure_spatial(const std::string& kernel, const Systems<12>& affine, const Matrix<const double>& probability,
                     const Vector<const int32_t>& maps, const Records<SpatialInstance>& instances,
                     const SpecBytes& spec, float least, const Rows<uint8_t, sizeof(SpatialMeasurement)>& out,
                     int threads) {
  const AffineParameters parameters = parameters_of<12>(affine, probability, maps);
  const SpatialInstance* records = records_of<SpatialInstance>(instances, maps.shape(0));
  check(out.shape(0) == instances.shape(0), "out does not fit the batch");
  const Spec& shared = spec_of(spec);
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  measure_spatial_batch(chosen, parameters, records, instances.shape(0), shared, least,
                        reinterpret_cast<SpatialMeasurement*>(out.data()), threads);
}

}  // namespace

void bind_affine(nb::module_& module) {
  module.attr("AFFINE_INSTANCE_BYTES") = sizeof(AffineInstance);
  module.attr("MEASUREMENT_BYTES") = sizeof(Measurement);
  module.def("draw_affine", &draw_affine, nb::arg("kernel"), nb::arg("affine").noconvert(),
             nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("instances").noconvert(),
             nb::arg("spec").noconvert(), nb::arg("palette").noconvert(), nb::arg("out").noconvert(),
             nb::arg("threads"), "Draws affine systems into out, uint8 (B, channels, size, size).");
  module.def("measure_affine", &measure_affine, nb::arg("kernel"), nb::arg("affine").noconvert(),
             nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("instances").noconvert(),
             nb::arg("spec").noconvert(), nb::arg("enough").noconvert(), nb::arg("out").noconvert(), nb::arg("threads"),
             "Box, count of hit pixels and finiteness of each instance's point picture.");
  module.attr("SPATIAL_INSTANCE_BYTES") = sizeof(SpatialInstance);
  module.attr("SPATIAL_MEASUREMENT_BYTES") = sizeof(SpatialMeasurement);
  module.def("draw_spatial", &draw_spatial, nb::arg("kernel"), nb::arg("affine").noconvert(),
             nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("instances").noconvert(),
             nb::arg("spec").noconvert(), nb::arg("palette").noconvert(), nb::arg("out").noconvert(),
             nb::arg("threads"),
             "Draws systems in space, as cameras see them, into out, uint8 (B, channels, size, size).");
  module.def("measure_spatial", &measure_spatial, nb::arg("kernel"), nb::arg("affine").noconvert(),
             nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("instances").noconvert(),
             nb::arg("spec").noconvert(), nb::arg("least"), nb::arg("out").noconvert(), nb::arg("threads"),
             "Extent, variance of each coordinate, and finiteness of each instance's cloud.");
}
