#include "cpu/bindings.h"
#include "cpu/given.h"

using namespace fdsl;

namespace {

constexpr int32_t MOST_POINTS = 1 << 30;  // of a picture: their sums fit 64 bits

void draw_points(const std::string& kernel, const Vector<const float>& points, const Records<GivenPoints>& instances,
                 const SpecBytes& spec, const Matrix<const uint8_t>& palette, const Images& out, int threads) {
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const GivenPoints* records = records_of<GivenPoints>(instances);
  const int64_t numbers = points.shape(0);
  for (size_t i = 0; i < batch.count; ++i) {
    const GivenPoints& it = records[i];
    check((it.dimensions == 2 || it.dimensions == 3) && it.points >= 1 && it.points <= MOST_POINTS && it.first >= 0 &&
              it.first <= numbers - int64_t{it.dimensions} * it.points,
          "an instance's points are not among those given");
  }
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_given_points_batch(chosen, points.data(), records, batch);
}

void draw_polylines(const std::string& kernel, const Rows<const float, 2>& vertices, const Vector<const int64_t>& ends,
                    const Records<GivenPolylines>& instances, const SpecBytes& spec,
                    const Matrix<const uint8_t>& palette, const Images& out, int threads) {
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const GivenPolylines* records = records_of<GivenPolylines>(instances);
  const int64_t lines = static_cast<int64_t>(ends.shape(0)) - 1, *end = ends.data();
  check(lines >= 0 && end[0] >= 0 && end[lines] <= static_cast<int64_t>(vertices.shape(0)),
        "the ends do not fit the vertices");
  for (int64_t i = 0; i < lines; ++i) check(end[i] < end[i + 1], "a line has no vertex");
  for (size_t i = 0; i < batch.count; ++i)
    check(records[i].lines >= 1 && records[i].first >= 0 && records[i].first <= lines - records[i].lines,
          "an instance's lines are not among those given");
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_given_polylines_batch(chosen, vertices.data(), ends.data(), records, batch);
}

using Plane = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void pixel_centres(const Records<Key>& key, const SpecBytes& spec_bytes, const Plane& x, const Plane& y) {
  const Spec& spec = spec_of(spec_bytes);
  const int32_t size = spec.size;
  check(key.shape(0) == 1, "the key is not one");
  for (const Plane* plane : {&x, &y})
    check(plane->shape(0) == plane->shape(1) && plane->shape(0) == static_cast<size_t>(size),
          "the planes do not fit the spec");
  const Window w = place_window(spec, *records_of<Key>(key), spec.of, spec.of, 0.0, 0.0);
  for (int32_t row = 0; row < size; ++row)
    for (int32_t column = 0; column < size; ++column) {
      const Position at = pixel_centre(w, size, row, column);
      x.data()[static_cast<size_t>(row) * size + column] = at.x;
      y.data()[static_cast<size_t>(row) * size + column] = at.y;
    }
}

}  // namespace

void bind_given(nb::module_& module) {
  module.attr("POINTS_BYTES") = sizeof(GivenPoints);
  module.attr("POLYLINES_BYTES") = sizeof(GivenPolylines);
  module.def("draw_points", &draw_points, nb::arg("kernel"), nb::arg("points").noconvert(),
             nb::arg("instances").noconvert(), nb::arg("spec").noconvert(), nb::arg("palette").noconvert(),
             nb::arg("out").noconvert(), nb::arg("threads"),
             "Draws points, float32 one after the other, into out, uint8 (B, channels, size, size).");
  module.def("draw_polylines", &draw_polylines, nb::arg("kernel"), nb::arg("vertices").noconvert(),
             nb::arg("ends").noconvert(), nb::arg("instances").noconvert(), nb::arg("spec").noconvert(),
             nb::arg("palette").noconvert(), nb::arg("out").noconvert(), nb::arg("threads"),
             "Draws polylines of vertices (N, 2), cut at ends (L + 1), into out.");
  module.def("pixel_centres", &pixel_centres, nb::arg("key").noconvert(), nb::arg("spec").noconvert(),
             nb::arg("x").noconvert(), nb::arg("y").noconvert(),
             "Where the pixels of one picture lie in the plane [0, 1) x [0, 1), into x and y (size, size).");
}
