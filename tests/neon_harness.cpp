// Draws a batch from standard input to standard output with the kernel named, under an emulator: tests/test_neon.py.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cpu/engine.h"

template <class T>
static std::vector<T> read(size_t count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, stdin) != count) std::abort();
  return values;
}

int main(int, char** arguments) {
  using namespace fdsl;
  const Kernel* kernel = find_kernel(arguments[1]);
  if (!kernel) return 1;
  const auto sizes = read<int32_t>(5);  // categories, maps, instances, palette rows, channels
  const Spec spec = read<Spec>(1)[0];
  const auto affine = read<double>(static_cast<size_t>(sizes[0]) * sizes[1] * 6);
  const auto probability = read<double>(static_cast<size_t>(sizes[0]) * sizes[1]);
  const auto maps = read<int32_t>(sizes[0]);
  const auto instances = read<Instance>(sizes[2]);
  const auto palette = read<uint8_t>(static_cast<size_t>(sizes[3]) * sizes[4]);
  std::vector<uint8_t> out(static_cast<size_t>(sizes[2]) * sizes[4] * spec.size * spec.size);
  draw_batch(*kernel, {affine.data(), probability.data(), maps.data(), sizes[1]}, instances.data(), sizes[2], spec,
             {palette.data(), sizes[4]}, out.data(), 1);
  return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 1;
}
