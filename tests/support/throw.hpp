#pragma once
#include "support/throw_message.hpp"
