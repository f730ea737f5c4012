// What Python sees of the kernels: arrays in, arrays filled. Each kind of drawing has a bind_*.cpp of its own.
#include "cpu/bindings.h"

#include <nanobind/stl/vector.h>

#include <vector>

#include "shared/order.h"

using namespace fdsl;

namespace {

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const char* name : {"avx512", "avx2", "neon", "portable"})
    if (find_kernel(name)) names.emplace_back(name);
  return names;
}

}  // namespace

void bind_affine(nb::module_& module);
void bind_contours(nb::module_& module);
void bind_bezier(nb::module_& module);
void bind_perlin(nb::module_& module);
void bind_compose(nb::module_& module);
void bind_given(nb::module_& module);
void bind_gl(nb::module_& module);
void bind_clouds(nb::module_& module);
void bind_published(nb::module_& module);
void bind_published_spatial(nb::module_& module);

NB_MODULE(_core, module) {
  module.attr("TRAJECTORIES") = TRAJECTORIES;
  module.attr("MAX_MAPS") = MAX_MAPS;
  module.attr("MAX_SIZE") = MAX_SIZE;
  module.attr("MAX_POINTS") = MAX_POINTS;
  module.attr("HUES") = HUES;
  module.attr("DENSITY_LEVELS") = DENSITY_LEVELS;
  module.attr("KEY_BYTES") = sizeof(Key);
  module.attr("SPEC_BYTES") = sizeof(Spec);
  module.def("kernels", &kernels, "Names of the kernels that run on this machine, best first.");
  module.def(
      "philox",
      [](uint64_t seed, const Rows<const uint32_t, 4>& counters, const Rows<uint32_t, 4>& out) {
        check(out.shape(0) == counters.shape(0), "out does not fit the counters");
        for (size_t i = 0; i < counters.shape(0); ++i) {
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
        check(out.shape(0) == turns.shape(0), "out does not fit the turns");
        for (size_t i = 0; i < turns.shape(0); ++i) {
          const SineCosine r = sine_cosine(turns.data()[i]);
          out.data()[2 * i] = r.sine;
          out.data()[2 * i + 1] = r.cosine;
        }
      },
      nb::arg("turns").noconvert(), nb::arg("out").noconvert(), "Sine and cosine of angles in 2^-32 turns.");
  module.def(
      "exponential",
      [](double x) {
        check(x >= -700.0 && x <= 700.0, "no number from -700 to 700");
        return exponential(x);
      },
      "The kernels' exponential, for |x| <= 700.");
  module.def("logarithm", [](double x) { return logarithm(x); }, "The kernels' logarithm, for positive normal x.");
  module.def(
      "epoch_order",
      [](uint64_t seed, uint32_t epoch, uint64_t size, const Vector<int64_t>& positions) {
        check(size >= 1 && size <= uint64_t{1} << 48, "no size from 1 to 2^48");
        int64_t* const begin = positions.data();
        int64_t* const end = begin + positions.shape(0);
        for (const int64_t* at = begin; at < end; ++at)
          check(static_cast<uint64_t>(*at) < size, "a position is not below the size");
        nb::gil_scoped_release release;
        const OrderKey key = order_key(seed, epoch, size);
        for (int64_t* at = begin; at < end; ++at) *at = order_at(key, *at);
      },
      nb::arg("seed"), nb::arg("epoch"), nb::arg("size"), nb::arg("positions").noconvert(),
      "Replaces positions by their indices in the order of the epoch.");
  bind_affine(module);
  bind_contours(module);
  bind_bezier(module);
  bind_perlin(module);
  bind_compose(module);
  bind_given(module);
  bind_gl(module);
  bind_clouds(module);
  bind_published(module);
  bind_published_spatial(module);
}
