#include "cpu/bindings.h"
#include "cpu/compose.h"

using namespace fdsl;

namespace {

using CompositionBytes = nb::ndarray<const uint8_t, nb::shape<sizeof(Composition)>, nb::c_contig, nb::device::cpu>;
using Objects = Rows<uint8_t, sizeof(PlacedObject)>;

size_t place_objects_of(const CompositionBytes& composition, const Rows<const uint32_t, 5>& pictures,
                        const Objects& out) {
  const Composition& shared = *reinterpret_cast<const Composition*>(composition.data());
  check(shared.fewest >= 1 && shared.fewest <= shared.most && shared.most <= MAX_OBJECTS && shared.size <= MAX_SIZE,
        "the composition is out of range");
  for (const int32_t side : shared.side) check(side >= 1 && side <= shared.size, "an object's side does not fit");
  check(out.shape(0) >= pictures.shape(0) * shared.most, "out does not fit the batch");
  PlacedObject* objects = reinterpret_cast<PlacedObject*>(out.data());
  nb::gil_scoped_release release;
  size_t count = 0;
  for (size_t i = 0; i < pictures.shape(0); ++i) {
    const uint32_t* picture = pictures.data() + 5 * i;
    const ComposedPicture composed = {picture[0], picture[1], picture[2], picture[3], picture[4]};
    count += place_objects(shared, composed, static_cast<uint32_t>(i), objects + count);
  }
  return count;
}

void compose(const Vector<const uint8_t>& pixels, const Objects& rows, const Vector<const uint8_t>& ground, bool opaque,
             const Images& out, const nb::ndarray<uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>& masks,
             int threads) {
  const size_t count = out.shape(0), channels = out.shape(1), size = out.shape(2);
  check(size <= MAX_SIZE && out.shape(3) == size && ground.shape(0) == channels && masks.shape(1) == size &&
            masks.shape(2) == size && (!masks.shape(0) || masks.shape(0) == rows.shape(0)),
        "out, masks and ground do not fit together");
  const int64_t bytes = pixels.shape(0);
  PlacedObject* objects = reinterpret_cast<PlacedObject*>(rows.data());
  for (size_t i = 0; i < rows.shape(0); ++i) {
    const PlacedObject& object = objects[i];
    const int64_t side = object.side, whole = size;
    if (object.picture >= count || (i && object.picture < objects[i - 1].picture) ||
        (i >= MAX_OBJECTS && object.picture == objects[i - MAX_OBJECTS].picture) || side < 1 || side > whole ||
        object.left < 0 || object.top < 0 || object.left > whole - side || object.top > whole - side ||
        object.offset < 0 || object.offset > bytes - side * side * static_cast<int64_t>(channels))
      throw std::invalid_argument("object " + std::to_string(i) + " does not fit the batch");
  }
  const ComposeBatch batch = {pixels.data(),
                              objects,
                              rows.shape(0),
                              ground.data(),
                              opaque,
                              static_cast<int>(channels),
                              static_cast<int>(size),
                              out.data(),
                              masks.shape(0) ? masks.data() : nullptr,
                              count,
                              threads};
  nb::gil_scoped_release release;
  compose_batch(batch);
}

}  // namespace

void bind_compose(nb::module_& module) {
  module.attr("COMPOSITION_BYTES") = sizeof(Composition);
  module.attr("OBJECT_BYTES") = sizeof(PlacedObject);
  module.attr("MAX_OBJECTS") = MAX_OBJECTS;
  module.attr("OBJECT_SIDES") = OBJECT_SIDES;
  module.def("place_objects", &place_objects_of, nb::arg("composition").noconvert(), nb::arg("pictures").noconvert(),
             nb::arg("out").noconvert(),
             "Places the objects of pictures (category, place, number, epoch, repeat) into out, picture by picture; "
             "gives how many they are.");
  module.def("compose", &compose, nb::arg("pixels").noconvert(), nb::arg("objects").noconvert(),
             nb::arg("ground").noconvert(), nb::arg("opaque"), nb::arg("out").noconvert(), nb::arg("masks").noconvert(),
             nb::arg("threads"),
             "Pastes objects onto canvases, uint8 (B, channels, size, size), and fills in what is seen of each.");
}
