#include "cpu/kernel.h"
#include "cpu/lanes_avx512.h"

namespace fdsl {

constinit const Kernel kernel_avx512 = kernel_of<Avx512>("avx512");

}  // namespace fdsl
