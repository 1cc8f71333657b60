// What build this is; every report carries it.
#pragma once

namespace motet::detail {

/// Version of motet, "0.1.0".
extern const char* const kVersion;
/// Git commit of the sources, 40 hex digits; "-dirty" follows when tracked files of include/, src/,
/// models/, cmake/ or CMakeLists.txt had uncommitted changes; "unknown" when built outside a git
/// checkout.
extern const char* const kCommit;

}  // namespace motet::detail
