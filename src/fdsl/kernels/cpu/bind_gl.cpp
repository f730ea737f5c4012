#include <algorithm>

#include "cpu/bezier.h"
#include "cpu/bindings.h"
#include "cpu/clouds.h"
#include "cpu/contours.h"
#include "cpu/given_painter.h"
#include "cpu/perlin.h"

using namespace fdsl;

namespace {

// What the OpenGL engine's shaders need of a picture: all that asks for the catalog or the view, worked out here.
// kernels/gl/pictures.glsl has the same records, laid out by std430.
struct GlPicture {
  double view[6];             // x, y -> cells: rows of the matrix, then the shift
  int32_t u0, v0, u1, v1;     // cells that are drawn
  int32_t column[2], row[2];  // u, v -> column[0] u + column[1], row[0] v + row[1] of the grid
  int32_t down, right;        // of a patch
  uint32_t neighbours, category, number, epoch;

  void set_view(const Placement& p) {
    const double numbers[6] = {p.m00, p.m01, p.m10, p.m11, p.t0, p.t1};
    for (int i = 0; i < 6; ++i) view[i] = numbers[i];
  }

  void set_key(const Key& it, const Window& w) {
    set_view(w.placement);
    neighbours = it.neighbours;
    category = it.category;
    number = it.number;
    epoch = it.epoch;
    right = w.mirror ? -1 : 1;
    column[0] = right;
  }

  // As shared/grid.h has it: as published, row 0 of the plain picture is the highest y.
  void set_upward(const Spec& spec, const Key& it, const Window& w) {
    set_key(it, w);
    u0 = w.u0 + MARGIN;
    v0 = w.v0 + MARGIN;
    u1 = w.u1 + MARGIN;
    v1 = w.v1 + MARGIN;
    const int last = spec.size + 2 * MARGIN - 1;
    const bool turned = it.flip & 1u;
    down = turned ? -1 : 1;
    column[1] = w.mirror ? last + w.left : -w.left;
    row[0] = -down;
    row[1] = turned ? -w.top : last + w.top;
  }

  // Of drawings whose y points down: the picture's pixels alone, whose cells are moved by `margin`.
  void set_downward(const Spec& spec, const Key& it, const Window& w, int margin) {
    set_key(it, w);
    u0 = w.left + margin;
    v0 = w.top + margin;
    u1 = u0 + spec.size;
    v1 = v0 + spec.size;
    down = row[0] = 1;
    column[1] = MARGIN + (w.mirror ? u1 - 1 : -u0);
    row[1] = MARGIN - v0;
  }
};

struct GlAffine : GlPicture {
  System system;
  Box box;
};

struct GlSpatial : GlPicture {
  SpatialPlacement camera;  // of a cloud that spans 2, about the origin
  SpatialSystem system;
  Extent extent;
};

struct GlClouds : GlPicture {
  SpatialPlacement camera;
  SpatialSystem system[2];  // of the category, and of its partner
};

struct GlContours : GlPicture {
  double axis[2], shift;
  float gain;
  float matrix[4], shift_of_contours[2], shift_of_breaks[2];
  int32_t vertices, lines, frequency[2], shades, first_shade, breaks;
};

struct GlBezier : GlPicture {
  float matrix[4], shift[2];
  int32_t control_points, curves, weights, unused;
};

struct GlPerlin : GlPicture {
  float x[3], y[3];
  uint32_t salt[2];
};

struct GlGiven : GlPicture {
  SpatialPlacement camera;
  double corner[2];  // that coordinates in the plane count from
  int32_t first, count;
  int32_t first_line, dimensions;
};

Window camera_window(const Spec& spec, const Key& it) {
  const double half = 0.5 * spec.of;
  return place_window(spec, it, half, half, half, half);
}
constexpr Extent NORMALISED = {-1.0f, 1.0f, {}};

template <class Record>
using RecordRows = Rows<uint8_t, sizeof(Record)>;

// Calls fill(record, instance) for each picture, with the GIL free.
template <class Record, class Instance, class Fill>
void fill_records(const Instance* instances, size_t count, const RecordRows<Record>& out, Fill fill) {
  check(out.shape(0) == count, "out does not fit the batch");
  nb::gil_scoped_release release;
  for (size_t i = 0; i < count; ++i) {
    Record record = {};
    fill(record, instances[i]);
    reinterpret_cast<Record*>(out.data())[i] = record;
  }
}

template <class System>
void set_row(System& system, const AffineParameters& p, size_t columns, uint32_t category, const double* factor) {
  const size_t row = static_cast<size_t>(category) * p.width;
  set_system(system, p.affine + row * columns, p.probability + row, p.maps_of(category), factor);
}

void gl_affine(const Systems<6>& affine, const Matrix<const double>& probability, const Vector<const int32_t>& maps,
               const Records<AffineInstance>& instances, const SpecBytes& spec_bytes, const RecordRows<GlAffine>& out) {
  const AffineParameters p = parameters_of<6>(affine, probability, maps);
  const Spec& spec = spec_of(spec_bytes);
  fill_records<GlAffine>(records_of<AffineInstance>(instances, maps.shape(0)), instances.shape(0), out,
                         [&](GlAffine& to, const AffineInstance& it) {
                           to.set_upward(spec, it, place_window(spec, it, 1.0, 1.0, 0.0, 0.0));
                           set_row(to.system, p, 6, it.category, it.factor);
                           to.box = it.box;
                         });
}

void gl_spatial(const Systems<12>& affine, const Matrix<const double>& probability, const Vector<const int32_t>& maps,
                const Records<SpatialInstance>& instances, const SpecBytes& spec_bytes,
                const RecordRows<GlSpatial>& out) {
  const AffineParameters p = parameters_of<12>(affine, probability, maps);
  const Spec& spec = spec_of(spec_bytes);
  fill_records<GlSpatial>(records_of<SpatialInstance>(instances, maps.shape(0)), instances.shape(0), out,
                          [&](GlSpatial& to, const SpatialInstance& it) {
                            const Window w = camera_window(spec, it);
                            to.set_upward(spec, it, w);
                            to.camera = place_camera(NORMALISED, it.turn, it.elevation, w.placement);
                            set_row(to.system, p, 12, it.category, it.factor);
                            to.extent = it.extent;
                          });
}

void gl_clouds(const Systems<12>& affine, const Matrix<const double>& probability, const Vector<const int32_t>& maps,
               int own, const Records<CloudPicture>& instances, const SpecBytes& spec_bytes,
               const RecordRows<GlClouds>& out) {
  const AffineParameters p = parameters_of<12>(affine, probability, maps);
  const Spec& spec = spec_of(spec_bytes);
  const CloudSpec cloud = {spec.seed, spec.points, own, static_cast<uint32_t>(maps.shape(0)), 0};
  constexpr double unvaried[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  fill_records<GlClouds>(records_of<CloudPicture>(instances, maps.shape(0)), instances.shape(0), out,
                         [&](GlClouds& to, const CloudPicture& it) {
                           const Window w = camera_window(spec, it);
                           to.set_upward(spec, it, w);
                           to.camera = place_camera(NORMALISED, it.turn, 0, w.placement);
                           const CloudInstance instance = {it.category, it.number, it.epoch, 0, 0, {}};
                           set_row(to.system[0], p, 12, it.category, unvaried);
                           set_row(to.system[1], p, 12, partner_of(cloud, instance), unvaried);
                         });
}

void gl_contours(const Records<ContourInstance>& instances, const SpecBytes& spec_bytes,
                 const RecordRows<GlContours>& out) {
  const Spec& spec = spec_of(spec_bytes);
  fill_records<GlContours>(
      records_of<ContourInstance>(instances), instances.shape(0), out, [&](GlContours& to, const ContourInstance& it) {
        const double scale = spec.of / PLANE;
        const Window w = place_window(spec, it, scale, scale, scale * it.centre[0], scale * it.centre[1]);
        to.set_downward(spec, it, w, 0);
        bool mirror;
        const ContourPlacement p(spec, it, it.centre[0], it.centre[1], &mirror), plane(spec, it, 0.0, 0.0, &mirror);
        const float matrix[4] = {p.m00, p.m01, p.m10, p.m11};
        for (int i = 0; i < 4; ++i) to.matrix[i] = matrix[i];
        to.shift_of_contours[0] = p.t0;
        to.shift_of_contours[1] = p.t1;
        to.shift_of_breaks[0] = plane.t0;
        to.shift_of_breaks[1] = plane.t1;
        for (int i = 0; i < 2; ++i) {
          to.axis[i] = it.axis[i];
          to.frequency[i] = it.frequency[i];
        }
        to.shift = it.shift;
        to.gain = static_cast<float>(it.gain * NOISE_SCALE);
        to.vertices = std::clamp(it.vertices, 1, MAX_VERTICES);
        to.lines = std::clamp(it.lines, 0, MAX_LINES);
        to.breaks = std::clamp(it.breaks, 0, MAX_BREAKS);
        to.shades = it.shades;
        to.first_shade = it.first_shade;
      });
}

void gl_bezier(const Vector<const int32_t>& control_points, const Vector<const int32_t>& curves, size_t weights,
               const Records<BezierInstance>& instances, const SpecBytes& spec_bytes, const RecordRows<GlBezier>& out) {
  const Spec& spec = spec_of(spec_bytes);
  const int most = most_control_points(weights);
  check(control_points.shape(0) == curves.shape(0) && most >= 2, "parameters do not fit together");
  fill_records<GlBezier>(records_of<BezierInstance>(instances, curves.shape(0)), instances.shape(0), out,
                         [&](GlBezier& to, const BezierInstance& it) {
                           const Window w = place_window(spec, it, spec.of, spec.of, 0.0, 0.0);
                           to.set_downward(spec, it, w, MARGIN);
                           for (int i = 0; i < 4; ++i) to.matrix[i] = static_cast<float>(to.view[i]);
                           for (int i = 0; i < 2; ++i) to.shift[i] = static_cast<float>(to.view[4 + i]);
                           to.control_points = std::clamp(control_points.data()[it.category], 2, most);
                           to.curves = std::clamp(curves.data()[it.category], 1, MAX_CONTROL_POINTS - 1);
                           to.weights = static_cast<int32_t>(bezier_weights_start(to.control_points));
                         });
}

void gl_perlin(const Rows<const int32_t, 2>& frequencies, const Records<PerlinInstance>& instances,
               const SpecBytes& spec_bytes, const RecordRows<GlPerlin>& out) {
  const Spec& spec = spec_of(spec_bytes);
  fill_records<GlPerlin>(records_of<PerlinInstance>(instances, frequencies.shape(0)), instances.shape(0), out,
                         [&](GlPerlin& to, const PerlinInstance& it) {
                           const Window w = place_window(spec, it, spec.of, spec.of, 0.0, 0.0);
                           to.set_downward(spec, it, w, 0);
                           const int32_t* f = frequencies.data() + 2 * static_cast<size_t>(it.category);
                           const PerlinNoise noise = perlin_noise(spec, it, w.placement, f[0], f[1]);
                           for (int i = 0; i < 3; ++i) {
                             to.x[i] = noise.x[i];
                             to.y[i] = noise.y[i];
                           }
                           to.salt[0] = noise.salt_x;
                           to.salt[1] = noise.salt_y;
                         });
}

// A place in a buffer that shaders read: their integers have 32 bits.
int32_t place_of(int64_t place) {
  check(place >= 0 && place <= INT32_MAX, "the batch holds too many numbers for a shader");
  return static_cast<int32_t>(place);
}

void set_corner(GlGiven& to, const Spec& spec, const Key& it, const Box& box) {
  to.set_upward(spec, it, place_from_corner(spec, it, box));
  to.corner[0] = box.x0;
  to.corner[1] = box.y0;
}

void gl_points(const Vector<const float>& points, const Records<GivenPoints>& instances, const SpecBytes& spec_bytes,
               const RecordRows<GlGiven>& out) {
  const Spec& spec = spec_of(spec_bytes);
  const int64_t size = points.shape(0);
  const GivenPoints* records = records_of<GivenPoints>(instances);
  for (size_t i = 0; i < instances.shape(0); ++i) {
    const GivenPoints& it = records[i];
    check((it.dimensions == 2 || it.dimensions == 3) && it.points >= 1 && it.first >= 0 &&
              it.first <= size - int64_t{it.dimensions} * it.points,
          "a picture's points are not in the batch");
    place_of(it.first + int64_t{it.dimensions} * it.points);
  }
  fill_records<GlGiven>(records, instances.shape(0), out, [&](GlGiven& to, const GivenPoints& it) {
    const float* first = points.data() + it.first;
    if (it.dimensions == 2) {
      set_corner(to, spec, it, box_of(first, it.points));
    } else {
      const Window w = place_window(spec, it, Box{-1.0f, 1.0f, -1.0f, 1.0f});
      to.set_upward(spec, it, w);
      to.camera = place_camera(extent_of(first, it.points), it.turns, 0, w.placement);
    }
    to.first = static_cast<int32_t>(it.first);
    to.count = it.points;
    to.dimensions = it.dimensions;
  });
}

void gl_polylines(const Rows<const float, 2>& vertices, const Vector<const int64_t>& ends,
                  const Records<GivenPolylines>& instances, const SpecBytes& spec_bytes,
                  const RecordRows<GlGiven>& out) {
  const Spec& spec = spec_of(spec_bytes);
  const int64_t lines = static_cast<int64_t>(ends.shape(0)) - 1, count = vertices.shape(0);
  const GivenPolylines* records = records_of<GivenPolylines>(instances);
  for (size_t i = 0; i < instances.shape(0); ++i) {
    const GivenPolylines& it = records[i];
    check(it.first >= 0 && it.lines >= 1 && it.lines < 1 << 24 && it.first <= lines - it.lines,
          "a picture's lines are not in the batch");
    const int64_t begin = ends.data()[it.first], end = ends.data()[it.first + it.lines];
    check(begin >= 0 && begin < end && end <= count, "a picture's vertices are not in the batch");
    place_of(2 * end);
  }
  fill_records<GlGiven>(records, instances.shape(0), out, [&](GlGiven& to, const GivenPolylines& it) {
    const int64_t begin = ends.data()[it.first], end = ends.data()[it.first + it.lines];
    set_corner(to, spec, it, box_of(vertices.data() + 2 * begin, end - begin));
    to.first = static_cast<int32_t>(begin);
    to.count = static_cast<int32_t>(end - begin);
    to.first_line = static_cast<int32_t>(it.first);
  });
}

}  // namespace

void bind_gl(nb::module_& module) {
  nb::list nibbles;
  for (uint32_t word : LATTICE_SLOPES.nibbles) nibbles.append(word);
  module.attr("LATTICE_NIBBLES") = nibbles;
  nb::dict bytes;
  const auto bind = [&](const char* name, size_t record, auto function, auto... arguments) {
    bytes[name] = record;
    module.def((std::string("gl_") + name).c_str(), function, arguments.noconvert()...,
               nb::arg("instances").noconvert(), nb::arg("spec").noconvert(), nb::arg("out").noconvert(),
               "Records of kernels/gl/pictures.glsl into out.");
  };
  const nb::arg affine("affine"), probability("probability"), maps("maps");
  bind("affine", sizeof(GlAffine), &gl_affine, affine, probability, maps);
  bind("spatial", sizeof(GlSpatial), &gl_spatial, affine, probability, maps);
  bind("clouds", sizeof(GlClouds), &gl_clouds, affine, probability, maps, nb::arg("own"));
  bind("contours", sizeof(GlContours), &gl_contours);
  bind("bezier", sizeof(GlBezier), &gl_bezier, nb::arg("control_points"), nb::arg("curves"), nb::arg("weights"));
  bind("perlin", sizeof(GlPerlin), &gl_perlin, nb::arg("frequencies"));
  bind("points", sizeof(GlGiven), &gl_points, nb::arg("points"));
  bind("polylines", sizeof(GlGiven), &gl_polylines, nb::arg("vertices"), nb::arg("ends"));
  module.attr("GL_BYTES") = bytes;
}
