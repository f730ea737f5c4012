// Array types and look-ups that the bindings share. Python has checked the values; here, shapes and sizes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <stdexcept>
#include <string>

#include "cpu/engine.h"

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

template <class Record>
const Record* records_of(const Records<Record>& rows) {
  return reinterpret_cast<const Record*>(rows.data());
}

inline const Spec& spec_of(const SpecBytes& bytes) { return *reinterpret_cast<const Spec*>(bytes.data()); }

inline const Kernel& kernel_named(const std::string& name) {
  const Kernel* kernel = find_kernel(name.c_str());
  if (!kernel) throw std::invalid_argument("no kernel '" + name + "' on this machine");
  return *kernel;
}

inline Batch batch_of(size_t count, const SpecBytes& spec_bytes, const Matrix<const uint8_t>& palette,
                      const Images& out, int threads) {
  const Spec& spec = spec_of(spec_bytes);
  const size_t size = spec.size;
  if (out.shape(0) != count || out.shape(1) != palette.shape(1) || out.shape(2) != size || out.shape(3) != size)
    throw std::invalid_argument("out does not fit the batch");
  return {spec, {palette.data(), static_cast<int>(palette.shape(1))}, out.data(), count, threads};
}

}  // namespace fdsl
