"""redis:// and rediss://: Redis Streams carry the events."""

from mediator.transports.redis.transport import RedisTransport

__all__ = ["RedisTransport"]
