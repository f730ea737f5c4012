#include "cpu/affine_painter.h"
#include "cpu/bezier_painter.h"
#include "cpu/lanes_portable.h"
#include "cpu/perlin_painter.h"

namespace fdsl {

const Kernel kernel_portable = {"portable", draw_affine<Portable>, measure_affine<Portable>, draw_bezier<Portable>,
                                draw_perlin<Portable>};

}  // namespace fdsl
