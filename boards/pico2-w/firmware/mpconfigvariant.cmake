include(${stock}/mpconfigvariant.cmake)
