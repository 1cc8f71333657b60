// Scenes like CLEVR's (Johnson et al. 2017), small: cubes and spheres of 8 colours on a grey plane, at
// positions that are known exactly. Rays through a pinhole camera; a surface is lit by Lambert's law,
// c (ambient + (1 - ambient) max(0, n . l)) where nothing is between it and the light. The 9 rays
// of a pixel look at 9 points of a wide light, so edges and the borders of shadows are smooth.
#include "data_scenes.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "motet/error.hpp"
#include "motet/train.hpp"

namespace motet {
namespace detail {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();
constexpr double kNear = 1e-6;  // a shadow's ray must not meet the surface that it leaves
constexpr int64_t kRays = 3;    // a side of a pixel
constexpr double kAmbient = 0.38;
constexpr double kLightWidth = 0.16;
constexpr Vector kLight = {-0.45, -0.35, 0.82};  // towards it
constexpr Vector kFloor = {0.62, 0.62, 0.62};

constexpr Vector operator+(const Vector& a, const Vector& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
constexpr Vector operator-(const Vector& a, const Vector& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
constexpr Vector operator*(double s, const Vector& a) { return {s * a.x, s * a.y, s * a.z}; }
constexpr double dot(const Vector& a, const Vector& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
constexpr Vector cross(const Vector& a, const Vector& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
Vector unit(const Vector& a) { return (1.0 / std::sqrt(dot(a, a))) * a; }

struct Ray {
  Vector from, along;
};

struct Camera {
  Vector eye{0.0, -3.3, 3.5};
  Vector target{0.0, -0.08, 0.1};
  double half_width = 0.3;  // of the picture, at distance 1
  Vector forward = unit(target - eye);
  Vector right = unit(cross(forward, {0.0, 0.0, 1.0}));
  Vector up = cross(right, forward);

  // u, v in [-1, 1]: to the right and up.
  Ray ray(double u, double v) const {
    return {eye, unit(forward + (half_width * u) * right + (half_width * v) * up)};
  }
};

const Camera& camera() {
  static const Camera the_camera;
  return the_camera;
}

/// Where a ray meets a solid first: at from + distance * along.
struct Hit {
  double distance = kFar;
  Vector normal;
};

/// A solid with what every ray asks of it.
struct Body {
  explicit Body(const SceneObject& object)
      : solid(object.solid),
        centre{object.x, object.y, object.size},
        size(object.size),
        reach(object.solid == Solid::sphere ? object.size : object.size * std::numbers::sqrt3),
        cosine(std::cos(object.angle)),
        sine(std::sin(object.angle)),
        colour(object.colour) {}

  Vector to_own(const Vector& v) const {
    return {cosine * v.x + sine * v.y, cosine * v.y - sine * v.x, v.z};
  }
  Vector from_own(const Vector& v) const {
    return {cosine * v.x - sine * v.y, cosine * v.y + sine * v.x, v.z};
  }

  Hit meet(const Ray& ray) const {
    const Vector offset = ray.from - centre;
    const double middle = -dot(offset, ray.along);
    const double gap = dot(offset, offset) - middle * middle;  // squared, of ray and centre
    if (gap > reach * reach) {
      return {};
    }
    return solid == Solid::sphere ? meet_sphere(offset, ray, middle, gap) : meet_cube(offset, ray);
  }

  Solid solid;
  Vector centre;
  double size, reach, cosine, sine;
  Vector colour;

 private:
  Hit meet_sphere(const Vector& offset, const Ray& ray, double middle, double gap) const {
    const double distance = middle - std::sqrt(size * size - gap);
    if (distance < kNear) {
      return {};
    }
    return {distance, (1.0 / size) * (offset + distance * ray.along)};
  }

  // The ray is inside all three slabs between the latest entry and the earliest exit.
  Hit meet_cube(const Vector& offset, const Ray& ray) const {
    const Vector own_from = to_own(offset);
    const Vector own_along = to_own(ray.along);
    const std::array<double, 3> from = {own_from.x, own_from.y, own_from.z};
    const std::array<double, 3> along = {own_along.x, own_along.y, own_along.z};
    double enter = -kFar;
    double leave = kFar;
    size_t side = 0;
    for (size_t i = 0; i < 3; ++i) {
      const double slope = std::abs(along[i]) < 1e-12 ? std::copysign(1e-12, along[i]) : along[i];
      const double first = (-std::copysign(size, slope) - from[i]) / slope;
      const double second = (std::copysign(size, slope) - from[i]) / slope;
      side = first > enter ? i : side;
      enter = std::max(enter, first);
      leave = std::min(leave, second);
    }
    if (enter > leave || enter < kNear) {
      return {};
    }
    std::array<double, 3> normal = {0.0, 0.0, 0.0};
    normal[side] = along[side] > 0.0 ? -1.0 : 1.0;
    return {enter, from_own({normal[0], normal[1], normal[2]})};
  }
};

bool is_shaded(const std::vector<Body>& bodies, const Ray& to_light) {
  return std::any_of(bodies.begin(), bodies.end(),
                     [&](const Body& body) { return body.meet(to_light).distance < kFar; });
}

// The colour that comes along a ray; `light`: the direction to its point of the light.
Vector trace(const std::vector<Body>& bodies, const Ray& ray, const Vector& light) {
  Hit nearest{.distance = -ray.from.z / ray.along.z, .normal = {0.0, 0.0, 1.0}};  // the plane
  Vector colour = kFloor;
  for (const Body& body : bodies) {
    const Hit hit = body.meet(ray);
    if (hit.distance < nearest.distance) {
      nearest = hit;
      colour = body.colour;
    }
  }
  const Vector point = ray.from + nearest.distance * ray.along;
  const double lambert = std::max(0.0, dot(nearest.normal, light));
  const Vector above = point + 1e-4 * nearest.normal;
  const bool is_lit = lambert > 0.0 && !is_shaded(bodies, {above, light});
  return (kAmbient + (is_lit ? (1.0 - kAmbient) * lambert : 0.0)) * colour;
}

// Directions to points of the light, one for each ray of a pixel, in an order that gives every row
// and column of rays points from all over it.
std::array<Vector, kRays * kRays> light_points() {
  const Vector middle = unit(kLight);
  const Vector side = unit(cross(middle, {0.0, 1.0, 0.0}));
  const Vector other = cross(side, middle);
  std::array<Vector, kRays * kRays> points;
  for (int64_t i = 0; i < kRays * kRays; ++i) {
    const int64_t shuffled = (i * 4) % (kRays * kRays);
    const auto across = static_cast<double>(shuffled % kRays - 1);
    const auto down = static_cast<double>(shuffled / kRays - 1);
    points[static_cast<size_t>(i)] =
        unit(middle + (kLightWidth * across) * side + (kLightWidth * down) * other);
  }
  return points;
}

Vector pixel_colour(const std::vector<Body>& bodies, int64_t row, int64_t column, int64_t size) {
  static const std::array<Vector, kRays * kRays> kLights = light_points();
  const double pixel = 2.0 / static_cast<double>(size);
  Vector sum;
  for (int64_t i = 0; i < kRays * kRays; ++i) {
    const double across = (static_cast<double>(i % kRays) + 0.5) / static_cast<double>(kRays);
    const double down = (static_cast<double>(i / kRays) + 0.5) / static_cast<double>(kRays);
    const double u = (static_cast<double>(column) + across) * pixel - 1.0;
    const double v = 1.0 - (static_cast<double>(row) + down) * pixel;
    sum = sum + trace(bodies, camera().ray(u, v), kLights[static_cast<size_t>(i)]);
  }
  return (1.0 / static_cast<double>(kRays * kRays)) * sum;
}

}  // namespace

std::array<double, 2> scene_pixel(const Vector& point, int64_t size) {
  const Vector seen = point - camera().eye;
  const double depth = dot(seen, camera().forward) * camera().half_width;
  const double half = 0.5 * static_cast<double>(size);
  return {half * (1.0 + dot(seen, camera().right) / depth),
          half * (1.0 - dot(seen, camera().up) / depth)};
}

void render_scene(const std::vector<SceneObject>& objects, int64_t size, float* out) {
  const std::vector<Body> bodies(objects.begin(), objects.end());
  for (int64_t i = 0; i < size * size; ++i) {
    const Vector colour = pixel_colour(bodies, i / size, i % size, size);
    out[i] = static_cast<float>(2.0 * std::min(colour.x, 1.0) - 1.0);
    out[size * size + i] = static_cast<float>(2.0 * std::min(colour.y, 1.0) - 1.0);
    out[2 * size * size + i] = static_cast<float>(2.0 * std::min(colour.z, 1.0) - 1.0);
  }
}

}  // namespace detail

namespace {

using detail::kMaxSolids;
using detail::SceneObject;
using detail::Solid;
using detail::Vector;

constexpr int64_t kTries = 24;                // places that an object may try
constexpr int64_t kNumbers = 4 + 2 * kTries;  // uniform ones, of an object
constexpr double kSmallest = 0.18, kLargest = 0.25;
constexpr double kGap = 0.06;  // between two objects at least
constexpr std::array<Vector, 8> kColours = {{{0.93, 0.20, 0.22},
                                             {0.20, 0.36, 0.93},
                                             {0.16, 0.72, 0.24},
                                             {0.98, 0.88, 0.18},
                                             {0.58, 0.24, 0.80},
                                             {0.14, 0.82, 0.84},
                                             {0.60, 0.36, 0.16},
                                             {0.98, 0.55, 0.12}}};

// How far a solid reaches on the plane.
double reach_of(const SceneObject& object) {
  return object.solid == Solid::cube ? object.size * std::numbers::sqrt2 : object.size;
}

bool is_free(const std::vector<SceneObject>& objects, const SceneObject& next) {
  return std::all_of(objects.begin(), objects.end(), [&next](const SceneObject& other) {
    return std::hypot(other.x - next.x, other.y - next.y) >=
           reach_of(other) + reach_of(next) + kGap;
  });
}

// The object that kNumbers uniform numbers say, without its place.
SceneObject object_of(const double* u) {
  SceneObject object;
  object.solid = u[0] < 0.5 ? Solid::cube : Solid::sphere;
  object.size =
      (object.solid == Solid::cube ? 0.85 : 1.0) * (kSmallest + (kLargest - kSmallest) * u[1]);
  object.colour = kColours[static_cast<size_t>(u[2] * static_cast<double>(kColours.size()))];
  object.angle = 0.5 * std::numbers::pi * u[3];
  return object;
}

// An object that finds no free place among its tries is left out: the scene then has fewer.
std::vector<SceneObject> place_objects(const double* u, int64_t num_objects) {
  std::vector<SceneObject> objects;
  for (int64_t i = 0; i < num_objects; ++i, u += kNumbers) {
    SceneObject next = object_of(u);
    for (int64_t k = 0; k < kTries; ++k) {
      next.x = 2.0 * u[4 + 2 * k] - 1.0;
      next.y = 2.0 * u[5 + 2 * k] - 1.0;
      if (is_free(objects, next)) {
        objects.push_back(next);
        break;
      }
    }
  }
  return objects;
}

void check(const SceneOptions& options) {
  if (options.size < 8 || options.size > 512) {
    throw ConfigError("data: scenes: size = " + std::to_string(options.size) +
                      ", must be in [8, 512]");
  }
  if (options.min_objects < 1 || options.max_objects > kMaxSolids ||
      options.min_objects > options.max_objects) {
    throw ConfigError("data: scenes: min_objects = " + std::to_string(options.min_objects) +
                      " and max_objects = " + std::to_string(options.max_objects) +
                      ", must be 1 to 5, the first not above the second");
  }
}

class SceneData final : public ConditionedData {
 public:
  explicit SceneData(const SceneOptions& options) : options_(options) { check(options); }
  Draw sample_conditioned(int64_t num_samples, Rng& rng) const override {
    const Scenes scenes = draw_scenes(options_, num_samples, rng);
    const Tensor u = rng.uniform(num_samples, scenes.positions);
    const Tensor chosen = (u * scenes.num_objects).floor().to(at::kLong);
    const Tensor index = chosen.view({-1, 1, 1}).expand({-1, 1, 2});
    return {scenes.images, scenes.positions.gather(1, index).squeeze(1)};
  }
  int64_t condition_dim() const override { return 2; }
  int64_t event_dim() const override { return 3 * options_.size * options_.size; }
  std::vector<int64_t> event_shape() const override { return {3, options_.size, options_.size}; }
  std::string describe() const override {
    return "scenes(" + std::to_string(options_.size) + ", " + std::to_string(options_.min_objects) +
           " to " + std::to_string(options_.max_objects) + " objects)";
  }

 private:
  SceneOptions options_;
};

}  // namespace

Scenes draw_scenes(const SceneOptions& options, int64_t num_scenes, Rng& rng) {
  check(options);
  const Tensor numbers =
      rng.uniform_like(at::empty({num_scenes, 1 + kMaxSolids * kNumbers}, at::kDouble));
  Scenes scenes{.images = at::empty({num_scenes, 3, options.size, options.size}, at::kFloat),
                .positions = at::zeros({num_scenes, kMaxSolids, 2}, at::kDouble),
                .num_objects = at::zeros({num_scenes}, at::kLong),
                .shapes = at::zeros({num_scenes, kMaxSolids}, at::kLong)};
  const auto render = [&](int64_t row) {
    const double* u = numbers.const_data_ptr<double>() + row * numbers.size(1);
    const int64_t spread = options.max_objects - options.min_objects + 1;
    const int64_t wanted =
        options.min_objects + static_cast<int64_t>(u[0] * static_cast<double>(spread));
    const std::vector<SceneObject> objects = place_objects(u + 1, wanted);
    for (size_t i = 0; i < objects.size(); ++i) {
      double* position =
          scenes.positions.data_ptr<double>() + 2 * (row * kMaxSolids + static_cast<int64_t>(i));
      position[0] = objects[i].x;
      position[1] = objects[i].y;
      scenes.shapes.data_ptr<int64_t>()[row * kMaxSolids + static_cast<int64_t>(i)] =
          objects[i].solid == Solid::sphere ? 1 : 0;
    }
    scenes.num_objects.data_ptr<int64_t>()[row] = static_cast<int64_t>(objects.size());
    detail::render_scene(objects, options.size,
                         scenes.images.data_ptr<float>() + row * 3 * options.size * options.size);
  };
  at::parallel_for(0, num_scenes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      render(row);
    }
  });
  return scenes;
}

DataSetPtr scene_data(const SceneOptions& options) { return std::make_shared<SceneData>(options); }

}  // namespace motet
