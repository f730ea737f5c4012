// Array types and look-ups that the bindings share. Python has checked what a number means; here, that none leads out
// of an array.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <stdexcept>
#include <string>

#include "cpu/affine.h"

namespace fdsl {

namespace nb = nanobind;

template <class T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T, size_t N>
using Rows = nb::ndarray<T, nb::shape<-1, N>, nb::c_contig, nb::device::cpu>;
using SpecBytes = nb::ndarray<const uint8_t, nb::shape<sizeof(Spec)>, nb::c_contig, nb::device::cpu>;
using Images = nb::ndarray<uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
// Records of a struct, as their bytes.
template <class Record>
using Records = Rows<const uint8_t, sizeof(Record)>;

// A catalog's systems: N parameters of each map.
template <size_t N>
using Systems = nb::ndarray<const double, nb::shape<-1, -1, N>, nb::c_contig, nb::device::cpu>;

inline void check(bool fits, const char* otherwise) {
  if (!fits) throw std::invalid_argument(otherwise);
}

template <class Record>
const Record* records_of(const Records<Record>& rows) {
  return reinterpret_cast<const Record*>(rows.data());
}

// Records whose categories are rows of the catalog's arrays.
template <class Record>
const Record* records_of(const Records<Record>& rows, size_t categories) {
  const Record* records = records_of<Record>(rows);
  for (size_t i = 0; i < rows.shape(0); ++i)
    check(records[i].category < categories, "an instance's category is not in the catalog");
  return records;
}

template <size_t N>
AffineParameters parameters_of(const Systems<N>& affine, const Matrix<const double>& probability,
                               const Vector<const int32_t>& maps) {
  const size_t categories = affine.shape(0), width = affine.shape(1);
  check(probability.shape(0) == categories && probability.shape(1) == width && maps.shape(0) == categories &&
            width >= 1 && width <= MAX_MAPS,
        "parameters do not fit together");
  return {affine.data(), probability.data(), maps.data(), static_cast<int>(width)};
}

inline const Spec& spec_of(const SpecBytes& bytes) {
  const Spec& spec = *reinterpret_cast<const Spec*>(bytes.data());
  check(spec.size >= 1 && spec.size <= MAX_SIZE && spec.of >= (spec.view == VIEW_CROP ? spec.size : 1) &&
            spec.of <= MAX_SIZE && spec.pad >= 0 && spec.pad <= MAX_SIZE && spec.points >= 0 &&
            spec.points <= MAX_POINTS,
        "the spec is out of range");
  return spec;
}

inline const Kernel& kernel_named(const std::string& name) {
  const Kernel* kernel = find_kernel(name.c_str());
  if (!kernel) throw std::invalid_argument("no kernel '" + name + "' on this machine");
  return *kernel;
}

inline Batch batch_of(size_t count, const SpecBytes& spec_bytes, const Matrix<const uint8_t>& palette,
                      const Images& out, int threads) {
  const Spec& spec = spec_of(spec_bytes);
  const size_t size = spec.size;
  const size_t channels = palette.shape(1), entries = spec.color == COLOR_DENSITY ? DENSITY_LEVELS
                                                      : spec.color == COLOR_COLOR ? 1 + HUES
                                                                                  : 2;
  check(palette.shape(0) >= entries && (channels == 1 || channels == 3), "the palette does not fit the colours");
  check(out.shape(0) == count && out.shape(1) == channels && out.shape(2) == size && out.shape(3) == size,
        "out does not fit the batch");
  return {spec, {palette.data(), static_cast<int>(channels)}, out.data(), count, threads};
}

}  // namespace fdsl
