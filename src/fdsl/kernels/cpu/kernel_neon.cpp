#include "cpu/kernel.h"
#include "cpu/lanes_neon.h"

namespace fdsl {

const Kernel kernel_neon = {"neon", draw_picture<Neon>, measure_picture<Neon>};

}  // namespace fdsl
