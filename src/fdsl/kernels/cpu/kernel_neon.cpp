#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_neon.h"

namespace fdsl {

const Kernel kernel_neon = {"neon", draw_affine<Neon>, measure_affine<Neon>, draw_cloud<Neon>};

}  // namespace fdsl
