// Draws a batch from standard input to standard output with the kernel named, under an emulator: tests/test_neon.py.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cpu/affine.h"
#include "cpu/bezier.h"
#include "cpu/clouds.h"
#include "cpu/contours.h"
#include "cpu/given.h"
#include "cpu/perlin.h"

// An array as Python passed it to a binding.
struct Array {
  std::vector<int64_t> shape;
  std::vector<uint64_t> words;  // aligned for whatever it holds

  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(words.data());
  }
};

template <class T>
static std::vector<T> read(size_t count, size_t bytes = sizeof(T)) {
  std::vector<T> values((count * bytes + sizeof(T) - 1) / sizeof(T));
  if (std::fread(values.data(), 1, count * bytes, stdin) != count * bytes) std::abort();
  return values;
}

static Array read_array() {
  Array array;
  const auto sizes = read<int64_t>(2);  // dimensions, bytes
  array.shape = read<int64_t>(sizes[0]);
  array.words = read<uint64_t>(sizes[1], 1);
  return array;
}

int main(int, char** arguments) {
  using namespace fdsl;
  const Kernel* kernel = find_kernel(arguments[1]);
  if (!kernel) return 1;
  const char* drawing = arguments[2];
  std::vector<Array> arrays(std::atoi(arguments[3]));
  for (Array& array : arrays) array = read_array();
  if (!std::strcmp(drawing, "draw_clouds")) {
    const AffineParameters parameters = {arrays[0].as<double>(), arrays[1].as<double>(), arrays[2].as<int32_t>(),
                                         static_cast<int>(arrays[0].shape[1])};
    const int64_t* sizes = arrays[4].as<int64_t>();  // seed, points, own
    const size_t count = arrays[3].shape[0];
    const CloudSpec spec = {static_cast<uint64_t>(sizes[0]), static_cast<int32_t>(sizes[1]),
                            static_cast<int32_t>(sizes[2]), static_cast<uint32_t>(arrays[2].shape[0]), 0};
    std::vector<float> points(count * sizes[1] * 3);
    draw_clouds_batch(*kernel, parameters, arrays[3].as<CloudInstance>(), count, spec, points.data(), 1);
    return std::fwrite(points.data(), sizeof(float), points.size(), stdout) == points.size() ? 0 : 1;
  }
  // The last three of every binding of pictures.
  const Array &spec = arrays[arrays.size() - 3], &palette = arrays[arrays.size() - 2];
  const std::vector<int64_t>& shape = arrays.back().shape;
  std::vector<uint8_t> out(static_cast<size_t>(shape[0]) * shape[1] * shape[2] * shape[3]);
  const Batch batch = {*spec.as<Spec>(),
                       {palette.as<uint8_t>(), static_cast<int>(shape[1])},
                       out.data(),
                       static_cast<size_t>(shape[0]),
                       1};
  if (!std::strcmp(drawing, "draw_affine")) {
    const AffineParameters parameters = {arrays[0].as<double>(), arrays[1].as<double>(), arrays[2].as<int32_t>(),
                                         static_cast<int>(arrays[0].shape[1])};
    draw_affine_batch(*kernel, parameters, arrays[3].as<AffineInstance>(), batch);
  } else if (!std::strcmp(drawing, "draw_bezier")) {
    const BezierParameters parameters = {arrays[0].as<int32_t>(), arrays[1].as<int32_t>(), arrays[2].as<float>(),
                                         most_control_points(arrays[2].shape[0])};
    draw_bezier_batch(*kernel, parameters, arrays[3].as<BezierInstance>(), batch);
  } else if (!std::strcmp(drawing, "draw_perlin")) {
    draw_perlin_batch(*kernel, arrays[0].as<int32_t>(), arrays[1].as<PerlinInstance>(), batch);
  } else if (!std::strcmp(drawing, "draw_contours")) {
    draw_contours_batch(*kernel, arrays[0].as<ContourInstance>(), batch);
  } else if (!std::strcmp(drawing, "draw_spatial")) {
    const AffineParameters parameters = {arrays[0].as<double>(), arrays[1].as<double>(), arrays[2].as<int32_t>(),
                                         static_cast<int>(arrays[0].shape[1])};
    draw_spatial_batch(*kernel, parameters, arrays[3].as<SpatialInstance>(), batch);
  } else if (!std::strcmp(drawing, "draw_points")) {
    draw_given_points_batch(*kernel, arrays[0].as<float>(), arrays[1].as<GivenPoints>(), batch);
  } else if (!std::strcmp(drawing, "draw_polylines")) {
    draw_given_polylines_batch(*kernel, arrays[0].as<float>(), arrays[1].as<int64_t>(), arrays[2].as<GivenPolylines>(),
                               batch);
  } else if (!std::strcmp(drawing, "draw_cloud_pictures")) {
    const AffineParameters parameters = {arrays[0].as<double>(), arrays[1].as<double>(), arrays[2].as<int32_t>(),
                                         static_cast<int>(arrays[0].shape[1])};
    const CloudSpec cloud = {batch.spec.seed, batch.spec.points, static_cast<int32_t>(*arrays[3].as<int64_t>()),
                             static_cast<uint32_t>(arrays[2].shape[0]), 0};
    draw_cloud_pictures_batch(*kernel, parameters, arrays[4].as<CloudPicture>(), cloud, batch);
  } else {
    return 1;
  }
  return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 1;
}
