//! RabbitMQ keeps every rule of a queue and of a fan-out. Needs `KX_TEST_RABBITMQ_URL`.
