// The test program's main function: doctest's, with teams of any size on any machine.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "fastlstm/threads.hpp"

int main(int argc, char** argv) {
  fastlstm::allow_oversubscription(true);
  return doctest::Context(argc, argv).run();
}
