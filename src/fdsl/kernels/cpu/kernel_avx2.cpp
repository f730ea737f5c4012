#include "cpu/kernel.h"
#include "cpu/lanes_avx2.h"

namespace fdsl {

constinit const Kernel kernel_avx2 = kernel_of<Avx2>("avx2");

}  // namespace fdsl
