// The table of a float32 engine; included after engine_loops.inl.

namespace motet::detail {
namespace {

// Float engines keep no state on a thread.
void nothing() {}

template <class S>
Engine make_float_engine(const char* name) {
  return {.name = name,
          .element_size = 4,
          .row_block = S::kRows,
          .pack = pack_float32,
          .linear = linear<S>,
          .linear_silu = linear_silu<S>,
          .linear_add = linear_add<S>,
          .linear_scale = linear_scale<S>,
          .norm_silu = norm_silu<S>,
          .norm_backward = norm_backward<S>,
          .group_norm = group_norm<S>,
          .narrow = narrow_rows<S>,
          .begin = nothing,
          .end = nothing};
}

}  // namespace
}  // namespace motet::detail
