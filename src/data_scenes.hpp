// Cubes and spheres on a plane as a camera sees them; private, shared with its tests.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace motet::detail {

struct Vector {
  double x = 0.0, y = 0.0, z = 0.0;
};

enum class Solid { cube, sphere };
inline constexpr int64_t kMaxSolids = 5;

/// A solid that stands on the plane z = 0.
struct SceneObject {
  Solid solid = Solid::sphere;
  double x = 0.0, y = 0.0;  ///< of its centre: x to the right, y away from the camera
  double size = 0.2;        ///< radius of the sphere, half an edge of the cube
  double angle = 0.0;       ///< of the cube about the vertical, in radians
  Vector colour;            ///< red, green, blue in [0, 1]
};

/// Where the camera sees a point: column and row in pixels of an image of `size`, (0, 0) being the
/// upper left corner of the first pixel.
std::array<double, 2> scene_pixel(const Vector& point, int64_t size);

/// Renders (3, size, size) numbers in [-1, 1] into `out`: perspective, Lambert's law, shadows of a
/// light of some width, 9 rays a pixel.
void render_scene(const std::vector<SceneObject>& objects, int64_t size, float* out);

}  // namespace motet::detail
