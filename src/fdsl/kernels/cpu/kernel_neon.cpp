#include "cpu/affine_painter.h"
#include "cpu/bezier_painter.h"
#include "cpu/lanes_neon.h"
#include "cpu/perlin_painter.h"

namespace fdsl {

const Kernel kernel_neon = {"neon", draw_affine<Neon>, measure_affine<Neon>, draw_bezier<Neon>, draw_perlin<Neon>};

}  // namespace fdsl
