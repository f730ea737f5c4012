// What Python sees of the kernels: arrays in, arrays filled. Python has checked their values; here, shapes and sizes.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/engine.h"
#include "shared/order.h"
#include "shared/picture.h"

namespace nb = nanobind;
using namespace fdsl;

namespace {

template <class T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T, size_t N>
using Rows = nb::ndarray<T, nb::shape<-1, N>, nb::c_contig, nb::device::cpu>;

const Kernel& kernel_named(const std::string& name) {
  const Kernel* kernel = find_kernel(name.c_str());
  if (!kernel) throw std::invalid_argument("no kernel '" + name + "' on this machine");
  return *kernel;
}

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const char* name : {"avx512", "avx2", "neon", "portable"})
    if (find_kernel(name)) names.emplace_back(name);
  return names;
}

using Affine = nb::ndarray<const double, nb::shape<-1, -1, 6>, nb::c_contig, nb::device::cpu>;

Parameters parameters_of(const Affine& affine, const Matrix<const double>& probability,
                         const Vector<const int32_t>& maps) {
  if (affine.shape(0) != probability.shape(0) || affine.shape(1) != probability.shape(1) ||
      affine.shape(0) != maps.shape(0) || affine.shape(1) > MAX_MAPS)
    throw std::invalid_argument("parameters do not fit together");
  return {affine.data(), probability.data(), maps.data(), static_cast<int>(affine.shape(1))};
}

using InstanceRows = Rows<const uint8_t, sizeof(Instance)>;
using SpecBytes = nb::ndarray<const uint8_t, nb::shape<sizeof(Spec)>, nb::c_contig, nb::device::cpu>;

void draw(const std::string& kernel, const Affine& affine, const Matrix<const double>& probability,
          const Vector<const int32_t>& maps, const InstanceRows& instances, const SpecBytes& spec_bytes,
          const Matrix<const uint8_t>& palette,
          const nb::ndarray<uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>& out, int threads) {
  const Parameters parameters = parameters_of(affine, probability, maps);
  const Spec& spec = *reinterpret_cast<const Spec*>(spec_bytes.data());
  const size_t size = spec.size;
  if (out.shape(0) != instances.shape(0) || out.shape(1) != palette.shape(1) || out.shape(2) != size ||
      out.shape(3) != size)
    throw std::invalid_argument("out does not fit the batch");
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_batch(chosen, parameters, reinterpret_cast<const Instance*>(instances.data()), instances.shape(0), spec,
             {palette.data(), static_cast<int>(palette.shape(1))}, out.data(), threads);
}

void measure(const std::string& kernel, const Affine& affine, const Matrix<const double>& probability,
             const Vector<const int32_t>& maps, const InstanceRows& instances, const SpecBytes& spec_bytes,
             const Vector<const int32_t>& enough, const Rows<uint8_t, sizeof(Measurement)>& out, int threads) {
  const Parameters parameters = parameters_of(affine, probability, maps);
  const Spec& spec = *reinterpret_cast<const Spec*>(spec_bytes.data());
  if (out.shape(0) != instances.shape(0) || enough.shape(0) != instances.shape(0))
    throw std::invalid_argument("out does not fit the batch");
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  measure_batch(chosen, parameters, reinterpret_cast<const Instance*>(instances.data()), instances.shape(0), spec,
                enough.data(), reinterpret_cast<Measurement*>(out.data()), threads);
}

}  // namespace

void bind_published(nb::module_& module);

NB_MODULE(_core, module) {
  module.attr("TRAJECTORIES") = TRAJECTORIES;
  module.attr("MAX_MAPS") = MAX_MAPS;
  module.attr("HUES") = HUES;
  module.attr("DENSITY_LEVELS") = DENSITY_LEVELS;
  module.attr("INSTANCE_BYTES") = sizeof(Instance);
  module.attr("SPEC_BYTES") = sizeof(Spec);
  module.attr("MEASUREMENT_BYTES") = sizeof(Measurement);
  module.def("kernels", &kernels, "Names of the kernels that run on this machine, best first.");
  module.def("draw", &draw, nb::arg("kernel"), nb::arg("affine").noconvert(), nb::arg("probability").noconvert(),
             nb::arg("maps").noconvert(), nb::arg("instances").noconvert(), nb::arg("spec").noconvert(),
             nb::arg("palette").noconvert(), nb::arg("out").noconvert(), nb::arg("threads"),
             "Draws instances into out, uint8 (B, channels, size, size).");
  module.def("measure", &measure, nb::arg("kernel"), nb::arg("affine").noconvert(), nb::arg("probability").noconvert(),
             nb::arg("maps").noconvert(), nb::arg("instances").noconvert(), nb::arg("spec").noconvert(),
             nb::arg("enough").noconvert(), nb::arg("out").noconvert(), nb::arg("threads"),
             "Box, count of hit pixels and finiteness of each instance's point picture.");
  module.def(
      "philox",
      [](uint64_t seed, const Rows<const uint32_t, 4>& counters, const Rows<uint32_t, 4>& out) {
        for (size_t i = 0; i < counters.shape(0) && i < out.shape(0); ++i) {
          const uint32_t* c = counters.data() + 4 * i;
          const Words r = philox(seed, c[0], c[1], c[2], c[3]);
          for (int j = 0; j < 4; ++j) out.data()[4 * i + j] = r.word[j];
        }
      },
      nb::arg("seed"), nb::arg("counters").noconvert(), nb::arg("out").noconvert(),
      "Philox-4x32-10 words of counters (N, 4).");
  module.def(
      "sine_cosine",
      [](const Vector<const uint32_t>& turns, const Rows<double, 2>& out) {
        for (size_t i = 0; i < turns.shape(0) && i < out.shape(0); ++i) {
          const SineCosine r = sine_cosine(turns.data()[i]);
          out.data()[2 * i] = r.sine;
          out.data()[2 * i + 1] = r.cosine;
        }
      },
      nb::arg("turns").noconvert(), nb::arg("out").noconvert(), "Sine and cosine of angles in 2^-32 turns.");
  module.def("exponential", [](double x) { return exponential(x); }, "The kernels' exponential, for |x| <= 700.");
  module.def("logarithm", [](double x) { return logarithm(x); }, "The kernels' logarithm, for positive normal x.");
  module.def(
      "epoch_order",
      [](uint64_t seed, uint32_t epoch, uint64_t size, const Vector<int64_t>& positions) {
        nb::gil_scoped_release release;
        const OrderKey key = order_key(seed, epoch, size);
        for (size_t i = 0; i < positions.shape(0); ++i) positions.data()[i] = order_at(key, positions.data()[i]);
      },
      nb::arg("seed"), nb::arg("epoch"), nb::arg("size"), nb::arg("positions").noconvert(),
      "Replaces positions by their indices in the order of the epoch.");
  bind_published(module);
}
